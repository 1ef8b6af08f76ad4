"""Engines side by side on Ray: what each needs, what starts when, what comes of what is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from benchmarks.sweep_packing import sleeper, stand_in, timeline, used_twice
from runner import language
from runner.config.composed import Composed
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.rundir import RunDirectory, read_json
from runner.status import INFRASTRUCTURE
from runner.sweep import record
from runner.sweep.points import Point
from runner.sweep.ray import Options, run_on_ray
from runner.sweep.ray_cluster import Cluster, connected
from runner.sweep.ray_run import Run
from runner.sweep.ray_task import ENGINES, Sent, ascending, environment, handed_on
from runner.sweep.record import PointRecord
from runner.sweep.schedule import Job, Need, Node, choose, impossible, jobs, ordered
from runner.verdict import Verdict

PROJECT = Path(__file__).parents[2]
A, B = Node("a", "host-a", {"NPU": 8.0}), Node("b", "host-b", {"NPU": 4.0})


def wide(number: int, width: int, points: int = 1) -> Job:
    return sleeper(number, width, float(points), points)


def ended(sweep: Path, number: int) -> PointRecord:
    found: PointRecord = read_json(sweep / str(number) / record.POINT, PointRecord)
    return found


def reason(sweep: Path, number: int) -> str:
    verdict: Verdict = read_json(RunDirectory(sweep / str(number)).verdict, Verdict)
    return verdict.reason


# What an engine needs of a cluster.


@pytest.mark.parametrize(
    ("platform", "resource"), [("ascend", "NPU"), ("cuda", "GPU"), ("cpu", "CPU")]
)
def test_ray_an_engine_needs_a_device_for_each_rank(
    compose: Callable[..., RunConfig], platform: str, resource: str
) -> None:
    config = compose(f"engine={platform}", "parallelism.tp=2", "parallelism.pp=2")
    (job,) = jobs([Point(0, (), config, Composed(""))])
    assert job.need == Need(resource, 4)


def test_ray_an_engine_over_several_nodes_leaves_the_devices_to_its_own_ranks(
    compose: Callable[..., RunConfig],
) -> None:
    config = compose(
        "engine=ascend", "parallelism.pp=2", "++engine.extra.distributed_executor_backend=ray"
    )
    (job,) = jobs([Point(0, (), config, Composed(""))])
    assert job.need == Need("NPU", 2, spans=True)


def test_ray_points_of_one_engine_are_one_job(compose: Callable[..., RunConfig]) -> None:
    points = [
        Point(number, (), compose(f"parallelism.tp={tp}", f"task.limit={limit}"), Composed(""))
        for number, (tp, limit) in enumerate([(1, 4), (2, 4), (1, 8), (2, 8)])
    ]
    found = jobs(points)
    assert [[point.number for point in job.points] for job in found] == [[1, 3], [0, 2]]
    assert [job.need.count for job in found] == [2, 1]


# What starts next, and where.


def test_ray_widest_first_then_most_points() -> None:
    asked = [wide(0, 1), wide(1, 4), wide(2, 1, points=3), wide(5, 2), wide(6, 4, points=2)]
    assert [job.number for job in ordered(asked)] == [6, 1, 5, 2, 0]


def test_ray_a_point_without_a_limit_counts_as_longer(compose: Callable[..., RunConfig]) -> None:
    short, whole = compose("task.limit=500"), compose("task.limit=null")
    assert short.task.limit == 500 and whole.task.limit is None
    asked = [
        Job((Point(n, (), c, Composed("")),), Need("NPU", 1)) for n, c in enumerate([short, whole])
    ]
    assert [job.number for job in ordered(asked)] == [1, 0]


def test_ray_narrow_engines_fill_the_gaps_of_wide_ones() -> None:
    waiting = [wide(0, 6), wide(1, 4), wide(2, 2), wide(3, 1)]
    chosen = choose(waiting, [A], {}, [])
    assert [job.number for job, _ in chosen] == [0, 2]


def test_ray_an_engine_goes_where_it_leaves_least_idle() -> None:
    assert choose([wide(0, 4)], [A, B], {}, []) == [(wide(0, 4), B)]
    assert choose([wide(0, 4)], [A, B], {"b": {"NPU": 1}}, []) == [(wide(0, 4), A)]


def test_ray_one_engine_never_takes_devices_of_two_nodes() -> None:
    assert choose([wide(0, 4)], [A, B], {"a": {"NPU": 6}, "b": {"NPU": 2}}, []) == []


def test_ray_an_engine_over_several_nodes_has_the_cluster_to_itself() -> None:
    spanning = replace(wide(0, 12), need=Need("NPU", 12, spans=True))
    assert choose([spanning, wide(1, 1)], [A, B], {}, []) == [(spanning, A)]
    assert choose([wide(1, 1)], [A, B], {}, [spanning]) == []
    assert choose([spanning], [A, B], {}, [wide(1, 1)]) == []


def test_ray_what_no_node_has_is_impossible() -> None:
    assert impossible(wide(0, 8), [A, B]) is None
    assert impossible(wide(0, 9), [A, B]) == (
        "parallelism: tp×pp×dp=9 needs 9 NPU (as counted by Ray), but no node has more than 8"
    )
    spanning = replace(wide(0, 13), need=Need("NPU", 13, spans=True))
    assert "the cluster has 12" in (impossible(spanning, [A, B]) or "")


# A task's own environment.


def test_ray_ids_ascend() -> None:
    assert ascending("7,6") == "6,7"
    assert ascending("10,9,2") == "2,9,10"
    assert ascending("GPU-b,GPU-a") == "GPU-b,GPU-a"
    assert ascending("") == ""


def test_ray_a_task_hides_ray_from_its_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_ID", "01")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "7,6")
    before = dict(os.environ)
    sent = Sent(tmp_path, tmp_path / "0", tmp_path, {"HCCL_DETERMINISTIC": "true"})
    with environment(sent, wide(0, 2), "10.0.0.1:6379"):
        assert {name for name in os.environ if name.startswith("RAY_")} == {"RAY_ADDRESS"}
        assert os.environ["RAY_ADDRESS"] == "local"
        assert os.environ["ASCEND_RT_VISIBLE_DEVICES"] == "6,7"
        assert os.environ["HCCL_DETERMINISTIC"] == "true"
        assert "OMP_NUM_THREADS" not in os.environ
        assert Path.cwd() == tmp_path
    assert dict(os.environ) == before
    spanning = replace(wide(0, 2), need=Need("NPU", 2, spans=True))
    with environment(sent, spanning, "10.0.0.1:6379"):
        assert os.environ["RAY_ADDRESS"] == "10.0.0.1:6379"
        assert "ASCEND_RT_VISIBLE_DEVICES" not in os.environ


def test_ray_nodes_get_the_drivers_switches_but_no_secret_and_no_place() -> None:
    variables = {
        "OMP_NUM_THREADS": "1",
        "HCCL_DETERMINISTIC": "true",
        "HF_HOME": "/shared/hf",
        "HF_HUB_OFFLINE": "1",
        "HF_TOKEN": "hf_secret",
        "HF_ENDPOINT": "https://me:secret@mirror",
        "VLLM_API_KEY": "secret",
        "ASCEND_HOME_PATH": "/usr/local/Ascend",
        "ASCEND_RT_VISIBLE_DEVICES": "0",
        "HCCL_SOCKET_IFNAME": "eth0",
        "HOME": "/root",
    }
    assert handed_on(variables) == {
        "OMP_NUM_THREADS": "1",
        "HCCL_DETERMINISTIC": "true",
        "HF_HOME": "/shared/hf",
        "HF_HUB_OFFLINE": "1",
    }


def test_ray_is_imported_by_no_one_who_does_not_ask_for_it() -> None:
    code = (
        "import sys, hydra_plugins.accuracy_runner, runner.sweep.ray, runner.sweep.ray_task\n"
        "assert not {'ray', 'mlflow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, timeout=60)


# On a real cluster of this machine, with logical NPUs.


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    before = set(psutil.pids())
    with connected(None, {"NPU": 8}) as found:
        yield found
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and ray_processes(before):
        time.sleep(0.1)
    assert ray_processes(before) == []


def ray_processes(before: set[int]) -> list[str]:
    """Those of Ray that this process, or Ray below it, started since."""
    found = []
    for process in psutil.process_iter():
        try:
            name = " ".join(process.cmdline()[:3])
            mine = process.pid not in before and process.ppid() == os.getpid()
            alive = process.status() != psutil.STATUS_ZOMBIE
            if mine and alive and ("raylet" in name or "gcs_server" in name):
                found.append(name)
        except psutil.Error:
            continue
    return found


def perform(sweep: Path, cluster: Cluster, work: Callable[[Path, Job], None], *asked: Job) -> str:
    """Run the jobs; what the driver said."""
    out = Console(record=True, quiet=False, file=open(os.devnull, "w"), width=400)  # noqa: SIM115
    Run(sweep, cluster, work, out, retries=1).perform(asked)
    return out.export_text()


@pytest.mark.slow
def test_ray_engines_run_side_by_side_and_no_device_is_used_twice(
    tmp_path: Path, cluster: Cluster
) -> None:
    asked = [wide(0, 4), wide(1, 4, points=2), wide(3, 2), wide(4, 1), wide(5, 1)]
    said = perform(tmp_path, cluster, stand_in, *asked)
    spans = timeline(tmp_path)
    assert used_twice(spans) == []
    assert [len(span.devices) for span in sorted(spans, key=lambda s: s.number)] == [4, 4, 2, 1, 1]
    assert all(ended(tmp_path, number).status == 0 for number in range(6))
    wide_ones = [span for span in spans if span.number in (0, 1)]
    assert wide_ones[0].devices.isdisjoint(wide_ones[1].devices)
    assert "points 1,2: engine on" in said and "NPU " in said
    # A process for each: Ray would otherwise use one again, with the devices it had.
    pids = {read_json(file, dict)["pid"] for file in (tmp_path / ENGINES).glob("*.json")}
    assert len(pids) == len(asked)


def misbehave(sweep: Path, job: Job) -> None:
    """Point 0 kills its Ray worker every time, 1 only once, 2 raises, 3 ends its process."""
    for point in job.points:
        times = sweep / f"times-{point.number}"
        seen = len(times.read_text()) if times.exists() else 0
        times.write_text("x" * (seen + 1))
        if point.number == 0 or (point.number == 1 and seen == 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if point.number == 2:
            raise ValueError("not of this world")
        if point.number == 3:
            sys.exit(7)
        record.write_point(sweep, PointRecord(point.number, point.overrides, 0))


@pytest.mark.slow
def test_ray_what_is_lost_runs_again_and_costs_itself_alone(
    tmp_path: Path, cluster: Cluster
) -> None:
    def job(*numbers: int) -> Job:
        points = tuple(
            Point(number, (f"n={number}",), RunConfig(), Composed("")) for number in numbers
        )
        return Job(points, Need("NPU", 1))

    said = perform(tmp_path, cluster, misbehave, job(0, 10), job(1, 11), job(2, 12), job(3, 13))
    statuses = {number: ended(tmp_path, number).status for number in (0, 1, 2, 3)}
    assert statuses == {0: INFRASTRUCTURE, 1: 0, 2: INFRASTRUCTURE, 3: INFRASTRUCTURE}
    assert [ended(tmp_path, number).status for number in (10, 11, 12, 13)] == [0] * 4
    assert reason(tmp_path, 0).startswith("lost 2 times, last on ")
    assert "WorkerCrashedError" in reason(tmp_path, 0)
    assert "ValueError: not of this world" in reason(tmp_path, 2)
    assert "the task would have ended with 7" in reason(tmp_path, 3)
    assert (tmp_path / "times-0").read_text() == "xx"  # once, and as often again as was asked
    assert (tmp_path / "times-2").read_text() == "x"  # an error of ours would only come again
    assert "retrying unfinished points (1 of 1)" in said


def write_language(sweep: Path, job: Job) -> None:
    (sweep / "language").write_text(language.language())
    for point in job.points:
        record.write_point(sweep, PointRecord(point.number, point.overrides, 0))


@pytest.mark.slow
def test_ray_a_task_writes_in_the_language_of_its_sweep(tmp_path: Path, cluster: Cluster) -> None:
    language.use("zh")
    try:
        perform(tmp_path, cluster, write_language, wide(0, 1))
    finally:
        language.use(None)
    assert (tmp_path / "language").read_text() == "zh"


@pytest.mark.slow
def test_ray_what_cannot_fit_is_refused_by_name_and_the_rest_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compose: Callable[..., RunConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    points = [
        Point(
            n,
            (f"parallelism.tp={tp}",),
            compose("engine=ascend", f"parallelism.tp={tp}"),
            Composed(""),
        )
        for n, tp in enumerate([1, 16])
    ]
    started = []
    monkeypatch.setattr(Run, "perform", lambda self, able: started.extend(able))
    monkeypatch.setattr("runner.sweep.ray.connected", imagined)
    record.write(tmp_path, record.SweepRecord("s", "", ()))
    run_on_ray(tmp_path, points, Options(address="auto"))
    assert [job.number for job in started] == [0]
    assert "16 NPU" in ended(tmp_path, 1).refused[0]
    assert "point 1" in capsys.readouterr().err

    started.clear()
    strict = [replace(p, config=compose("sweep.strict=true", "engine=ascend")) for p in points[:1]]
    with pytest.raises(UserError, match=r"sweep\.strict"):
        run_on_ray(tmp_path, [*strict, points[1]], Options(address="auto"))
    assert started == []


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_away_is_one_message_at_once(scheme: str) -> None:
    """Ray itself would try for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
    begun = time.monotonic()
    with (
        pytest.raises(UserError, match=f"address={address}: not reachable .Connection refused"),
        connected(address, {}),
    ):
        pass
    assert time.monotonic() - begun < 60


class imagined:
    """A cluster that nobody starts."""

    def __init__(self, address: str | None, resources: Mapping[str, float]) -> None: ...

    def __enter__(self) -> imagined:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def nodes(self) -> list[Node]:
        return [A, B]


DRIVER = """
import os, signal, sys
from pathlib import Path
from rich.console import Console
from benchmarks.sweep_packing import sleeper, stand_in
from runner.sweep.ray import Run
from runner.sweep.ray_cluster import connected
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    with connected(None, {"NPU": 2}) as cluster:
        Run(Path(sys.argv[1]), cluster, stand_in, Console(), 1).perform(
            [sleeper(0, 1, 0.5), sleeper(1, 1, 300), sleeper(2, 2, 300)][::-1][:int(sys.argv[2])])
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ray_interrupted_once_stops_all_and_leaves_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), "1"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / ENGINES / "2.json").exists():
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        family = psutil.Process(driver.pid).children(recursive=True)
        assert any("raylet" in process.name() for process in family)
        driver.send_signal(number)
        said, _ = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode == 130, said
    assert "interrupted: stopping 1 engine" in said
    assert "interrupted" in (tmp_path / ENGINES / "2.log").read_text()
    assert read_json(tmp_path / ENGINES / "2.json", dict)["ended"] is not None
    assert not (tmp_path / "2" / record.POINT).exists()  # the next start runs it
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
