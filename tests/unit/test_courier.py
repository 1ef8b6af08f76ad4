"""A run is sent in bounded time, once, whatever the server does; what is left can be sent later."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runner import sync
from runner.config.schema import RunConfig
from runner.environment import Environment
from runner.outcome import Outcome
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json, write_atomic, write_json
from runner.sweep import record
from runner.sweep.record import PointRecord, SweepRecord
from runner.tracking import records
from runner.tracking.courier import Busy, Courier
from runner.tracking.pending import deliver, pending
from runner.tracking.records import Begun
from runner.tracking.sender_process import NotSent
from runner.tracking.tracked import TrackedRun
from runner.verdict import Verdict
from tests.mlflow_server import Server, serving, wait_until

# To import MLflow on a busy machine, which a run has an engine's start for.
PATIENCE_S = 60.0

Make = Callable[..., RunDirectory]


@pytest.fixture
def make(
    tmp_path: Path,
    server: Server,
    config: RunConfig,
    plan: Plan,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
) -> Make:
    """A run directory as a run leaves it, to be sent to the server."""

    def made(name: str = "run", uri: str = server.uri, finished: bool = True) -> RunDirectory:
        run = RunDirectory(tmp_path / name)
        run.claim()
        config.tracking.uri = uri
        write_json(run.tracking, records.begin(config, plan, environment, 1000))
        write_atomic(run.events, '{"event": "outcome", "time": 5.0}\n')
        write_json(run.outcome, outcome)
        if finished:
            write_json(run.verdict, verdict)
            write_atomic(run.report, "# the report\n")
        return run

    return made


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def begun(run: RunDirectory) -> Begun:
    found: Begun = read_json(run.tracking, Begun)
    return found


def test_a_run_arrives_whole(server: Server, courier: Courier, make: Make) -> None:
    run = make()
    tracked = courier.send(run, PATIENCE_S)
    assert tracked == read_json(run.tracked, TrackedRun)
    (stored,) = server.runs.values()
    assert stored["info"]["status"] == "FINISHED"
    assert (stored["info"]["start_time"], stored["info"]["end_time"]) == (1000, 5000)
    assert server.tags(tracked.run_id)["verdict"] == "PASSED"
    assert server.tags(tracked.run_id)["run_key"] == begun(run).key
    assert {each["key"]: each["value"] for each in stored["data"]["params"]}["tp"] == "2"
    assert {each["key"] for each in stored["data"]["metrics"]} >= {"gsm8k/passed"}
    names = {file.name for file in run.path.iterdir()}
    assert server.artifacts(tracked.run_id) == names - {"mlflow.json"} | {"metrics.csv"}
    assert pending(run.path) == []


@pytest.mark.parametrize("fault", [500, 507, 429, 401, 403, 404, "html", "cut"])
def test_a_server_that_refuses_costs_no_time_and_the_run_is_pending(
    server: Server, courier: Courier, make: Make, fault: str | int
) -> None:
    run = make()
    courier.start()
    server.misbehave(fault)
    began = time.monotonic()
    with pytest.raises(NotSent) as refused:
        courier.send(run, PATIENCE_S)
    assert time.monotonic() - began < 10
    assert "\n" not in str(refused.value)
    assert [each.path for each in pending(run.path.parent)] == [run.path]
    server.behave()
    courier.send(run, PATIENCE_S)
    assert [run["info"]["status"] for run in server.runs.values()] == ["FINISHED"]


@pytest.mark.parametrize("after", range(11))
@pytest.mark.parametrize("fault", ["lost", 507])
def test_what_was_cut_short_is_completed_and_not_doubled(
    server: Server, courier: Courier, make: Make, fault: str | int, after: int
) -> None:
    run = make()
    server.misbehave(fault, after)
    with pytest.raises(NotSent):
        courier.send(run, PATIENCE_S)
    server.behave()
    tracked = courier.send(run, PATIENCE_S)
    active = [
        each["info"] for each in server.runs.values() if each["info"]["lifecycle_stage"] == "active"
    ]
    assert [(each["run_id"], each["status"]) for each in active] == [(tracked.run_id, "FINISHED")]
    names = {file.name for file in run.path.iterdir()}
    assert server.artifacts(tracked.run_id) == names - {"mlflow.json"} | {"metrics.csv"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["silent", "dribble"])
def test_a_server_that_keeps_us_waiting_is_left(
    server: Server, courier: Courier, make: Make, fault: str
) -> None:
    courier.send(make("first"), PATIENCE_S)  # MLflow is imported now
    run = make("second")
    server.misbehave(fault, after=3)
    began = time.monotonic()
    for limit in ("3.0", "2.0", "2.0"):  # it has been warned
        with pytest.raises(NotSent, match=f"no answer within {limit} s"):
            courier.send(run, 3)
    assert time.monotonic() - began < 12
    assert [each.path for each in pending(run.path.parent)] == [run.path]
    server.behave()
    courier.send(run, 9 * PATIENCE_S)  # a third of a third of a third of it
    (_, second) = server.runs.values()
    assert second["info"]["status"] == "FINISHED"


def test_no_server(courier: Courier, make: Make) -> None:
    run = make(uri="http://127.0.0.1:9")
    with pytest.raises(NotSent):
        courier.send(run, PATIENCE_S)
    assert not run.tracked.exists()


def test_a_store_that_takes_nothing_is_not_asked_for_every_run(
    server: Server, courier: Courier, make: Make
) -> None:
    runs = [make(str(number)) for number in range(5)]
    server.misbehave(500)
    problems = [each.problem for each in deliver(courier, runs, PATIENCE_S)]
    assert len(server.asked) == 2
    assert problems[2:] == ["not tried: earlier uploads to this store failed"] * 3
    server.behave()
    assert all(each.tracked for each in deliver(courier, pending(runs[0].path.parent), PATIENCE_S))
    assert len(server.runs) == 5


def test_a_run_that_was_killed_is_recorded_as_that(
    server: Server, courier: Courier, make: Make
) -> None:
    tracked = courier.send(make(finished=False), PATIENCE_S)
    (stored,) = server.runs.values()
    assert stored["info"]["status"] == "KILLED"
    assert stored["info"]["end_time"] == 5000
    assert server.tags(tracked.run_id)["verdict"] == "ERROR"
    assert "ended before" in server.tags(tracked.run_id)["reason"]


def test_a_run_in_progress_is_left_alone(server: Server, courier: Courier, make: Make) -> None:
    run = make(finished=False)
    with Courier() as other:
        other._hold(run)
        with pytest.raises(Busy):
            courier.send(run, PATIENCE_S)
    assert server.runs == {}
    courier.send(run, PATIENCE_S)


def test_a_replaced_attempt_no_longer_counts_as_its_sweeps_point(
    server: Server, courier: Courier, make: Make, config: RunConfig
) -> None:
    config.sweep.id = "2026/11"
    run = make("3")
    tracked = courier.send(run, PATIENCE_S)
    assert server.tags(tracked.run_id)["sweep"] == "2026/11"
    place = run.path.parent / "earlier" / "3"
    place.parent.mkdir()
    run.tracked.unlink()
    moved = RunDirectory(run.path.rename(place))
    assert courier.send(moved, PATIENCE_S).run_id == tracked.run_id
    tags = server.tags(tracked.run_id)
    assert ("sweep" in tags, tags["sweep_earlier"]) == (False, "2026/11")


def test_the_next_run_marks_what_a_kill_left_running(
    server: Server, courier: Courier, make: Make
) -> None:
    first = make("first")
    server.misbehave("cut", after=6)  # the run is made, and nothing more is heard
    with pytest.raises(NotSent):
        courier.send(first, PATIENCE_S)
    assert [run["info"]["status"] for run in server.runs.values()] == ["RUNNING"]
    server.behave()
    uri, experiment = begun(first).uri, begun(first).experiment
    with Courier() as other:
        other._hold(first)
        courier.open(uri, experiment, PATIENCE_S)
        assert [run["info"]["status"] for run in server.runs.values()] == ["RUNNING"]
    courier.open(uri, experiment, PATIENCE_S)
    assert [run["info"]["status"] for run in server.runs.values()] == ["FINISHED"]
    courier.send(first, PATIENCE_S)
    assert len(server.runs) == 1


# The process


def children() -> set[int]:
    return {each.pid for each in psutil.Process().children(recursive=True)}


@pytest.mark.slow
def test_it_leaves_no_process(server: Server, make: Make) -> None:
    before = children()
    with Courier() as courier:
        courier.send(make("first"), PATIENCE_S)
        server.misbehave("silent")
        courier.begin(make("second"), begun(make("third")))
        wait_until(lambda: len(server.asked) > 9)
        assert len(children() - before) == 1
    assert children() == before


SENDS = """
import sys, time
from pathlib import Path
from runner.rundir import RunDirectory
from runner.tracking.courier import Courier
import signal
signal.signal(signal.SIGTERM, signal.default_int_handler)
with Courier() as courier:
    courier.start()
    print(courier._sender._process.pid, flush=True)
    courier.send(RunDirectory(Path(sys.argv[1])), 600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_while_it_is_being_sent_loses_nothing(
    server: Server, courier: Courier, make: Make, number: signal.Signals
) -> None:
    run = make()
    server.misbehave("silent", after=5)
    process = subprocess.Popen(
        [sys.executable, "-c", SENDS, str(run.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    sender = psutil.Process(int(process.stdout.readline()))
    wait_until(lambda: len(server.asked) > 5, PATIENCE_S)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    sender.wait(10) if sender.is_running() else None
    assert process.returncode != 0
    if number != signal.SIGKILL:
        assert f"python -m runner.sync {run.path}" in said
    server.behave()
    courier.send(run, PATIENCE_S)
    assert [run["info"]["status"] for run in server.runs.values()] == ["FINISHED"]


# python -m runner.sync


def test_sync_sends_what_is_pending_and_names_what_is_left(
    server: Server, make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make("outputs/first"), make("outputs/deep/er/second", finished=False)
    lost = make("outputs/lost", uri="http://127.0.0.1:9")
    make("outputs/torn").tracking.write_text('{"key": ')
    for number in range(3):
        make(f"outputs/{number}").verdict.write_text("{}")
    monkeypatch.chdir(first.path.parent.parent)
    assert sync.main([]) == 2
    said = capsys.readouterr().out
    assert said.count("uploaded: ") == 2 and "2 uploaded, 5 pending" in said
    assert "pending: outputs/lost (http://127.0.0.1:9): " in said
    assert "pending: outputs/torn: a file is truncated" in said
    assert {run["info"]["status"] for run in server.runs.values()} == {"FINISHED", "KILLED"}
    assert first.tracked.exists() and second.tracked.exists() and not lost.tracked.exists()


def swept(directory: Path, make: Make, config: RunConfig) -> Path:
    """A sweep of one point, which is not in MLflow yet."""
    config.sweep.id = "sweep"
    make(f"{directory.name}/0")
    record.write(directory, SweepRecord("sweep", "python -m runner", (PointRecord(0, ()),)))
    record.write_point(directory, PointRecord(0, (), 0))
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("file", ["sweep.json", "0/point.json"])
def test_sync_names_the_file_of_a_sweep_that_cannot_be_read_and_goes_on(
    make: Make, config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    sweep = swept(tmp_path / "sweep", make, config)
    (sweep / file).write_text("{")
    assert sync.main([str(sweep)]) == 2
    first, *_, said, last = capsys.readouterr().out.splitlines()
    assert first == "runs to upload: 1 (timeout 300 s each)"
    cause = "truncated, or written by another version of the runner"
    assert said == f"pending: {sweep / file}: {cause}"
    assert last == "1 uploaded, 1 pending"


@pytest.mark.slow
def test_sync_ends_with_a_message_where_a_comparison_cannot_be_written(
    make: Make, config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = swept(tmp_path / "sweep", make, config)
    (sweep / "sweep.csv").mkdir()
    assert sync.main([str(sweep)]) == 2
    *_, said, last = capsys.readouterr().out.splitlines()
    assert said.startswith(f"pending: {sweep}: could not write the comparison: Is a directory")
    assert last == "1 uploaded, 1 pending"


@pytest.mark.parametrize(
    ("fault", "said"), [("garbage", "not in a valid JSON format. Response body: '␀␁"), (500, "500")]
)
def test_why_it_was_not_sent_can_be_read(
    server: Server, courier: Courier, make: Make, fault: str | int, said: str
) -> None:
    run = make()
    server.misbehave(fault)
    with pytest.raises(NotSent) as refused:
        courier.send(run, PATIENCE_S)
    assert said in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.slow
def test_what_mlflow_keeps_below_is_nobodys_to_send(
    make: Make, config: RunConfig, store_file: Path
) -> None:
    """With `hydra.sweep.dir=` the store's copies lie in the sweep's own directory."""
    config.sweep.id = "sweep"
    run = make("0", uri=f"sqlite:///{store_file}")
    record.write(Path(), SweepRecord("sweep", "python -m runner", (PointRecord(0, ()),)))
    record.write_point(Path(), PointRecord(0, (), 0))
    assert sync.main(["."]) == 0
    copies = {file.name for file in Path("mlruns").rglob("*.json")}
    assert copies >= {"tracking.json", "sweep.json", "point.json"}
    assert pending(Path()) == []
    assert sync._sweeps([Path()]) == [Path()]
    run.tracked.unlink()
    assert [each.path.resolve() for each in pending(Path())] == [run.path]


def test_sync_with_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "0 uploaded, 0 pending\n"


@pytest.mark.parametrize("arguments", [["no/such/place"], ["--nonsense"]])
def test_sync_used_wrongly(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert sync.main(arguments) == 1
    assert arguments[0] in capsys.readouterr().err
