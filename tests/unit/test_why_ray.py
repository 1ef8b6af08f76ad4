"""Probes on a cluster that nobody starts: what runs when, what is stopped, and how they end."""

from __future__ import annotations

import os
import random
from collections.abc import Container
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from runner.config import loading
from runner.config.composed import Composed
from runner.config.composition import compose
from runner.config.recorded import Recorded
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.rundir import RunDirectory, read_json, write_json
from runner.status import EXIT_STATUS, INFRASTRUCTURE, Status
from runner.sweep import record
from runner.sweep.points import Point
from runner.sweep.ray import Options
from runner.sweep.ray_task import ENGINES, EngineRecord
from runner.sweep.record import PointRecord
from runner.sweep.schedule import Job, Need, Node, impossible
from runner.tracking.courier import Courier
from runner.verdict import Verdict
from runner.why import ray
from runner.why.launcher import chosen
from runner.why.probes import Done
from runner.why.ray import ENDED, Ended, RayRuns, Work


class Cluster:
    """A node with two CPUs."""

    def __init__(self, *_: Any) -> None:
        self.alive = True

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def nodes(self) -> list[Node]:
        return [Node("a", "host-a", {"CPU": 2.0})] if self.alive else []


class Scheduler:
    """Starts what is waiting in its order, as the sweep's does; one of what runs ends at a time.

    A node that is gone is there again after three looks.
    """

    latest: Scheduler

    def __init__(self, place: Path, cluster: Cluster, work: Work, *_: Any) -> None:
        Scheduler.latest = self
        self.cluster, self.work = cluster, work
        self.looks = 0
        self.running: list[Job] = []
        self.began: list[str] = []
        self.stopped: list[str] = []
        self.lost: set[str] = set()
        self._place, self._random = place, random.Random(3)

    def prepare(self, able: list[Job]) -> None: ...

    def advance(self, waiting: list[Job]) -> list[Job]:
        self.looks += not self.cluster.alive
        self.cluster.alive |= self.looks == 3
        for job in list(waiting):
            if len(self.running) < 2 and not impossible(job, self.cluster.nodes()):
                self.running.append(job)
                self.began.append(named(job))
                waiting = [each for each in waiting if each is not job]
        if self.running:
            self._end(self.running.pop(self._random.randrange(len(self.running))))
        return waiting

    def drop(self, numbers: Container[int]) -> None:
        self.stopped += [named(each) for each in self.running if each.number in numbers]
        self.running = [each for each in self.running if each.number not in numbers]

    def ended(self, point: Point) -> PointRecord | None:
        file = self._place / str(point.number) / record.POINT
        return read_json(file, PointRecord) if file.exists() else None

    def cancel(self) -> None:
        self.stopped += map(named, self.running)

    def _end(self, job: Job) -> None:
        (point,) = job.points
        directory = self._place / str(point.number)
        directory.mkdir(parents=True)
        if named(job) in self.lost:
            reason = "lost once on host-a: its task failed: OSError: [Errno 28] No space left"
            verdict = Verdict(Status.ERROR, reason, "", (), EXIT_STATUS[Status.ERROR])
            write_json(RunDirectory(directory).verdict, verdict)
            record.write_point(self._place, PointRecord(point.number, (), INFRASTRUCTURE))
            return
        done = Done(Path(point.config.output_dir), "the command", dtype="float32")
        write_json(directory / ENDED, Ended(done, 1))
        record.write_point(self._place, PointRecord(point.number, (), 0))


def named(job: Job) -> str:
    return job.points[0].overrides[0]


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    loading.register()
    composed = compose(["tracking=off", "engine=cpu"])
    tree = OmegaConf.create(OmegaConf.to_yaml(composed, resolve=True))
    assert isinstance(tree, DictConfig)
    return Recorded(tree)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RayRuns:
    monkeypatch.setattr(ray, "connected", Cluster)
    monkeypatch.setattr(ray, "Run", Scheduler)
    return RayRuns(tmp_path, Courier(), Console(file=StringIO()), Options())


def test_what_is_needed_runs_before_what_may_be_needed(runs: RayRuns, recorded: Recorded) -> None:
    with runs:
        runs.ahead((name, recorded, {}) for name in "abcdef")
        assert runs.run("a", recorded, {}).dtype == "float32"
        assert runs.run("new", recorded, {}).reason == ""
        began = Scheduler.latest.began
        assert "new" in began and "f" not in began
        assert runs.run("b", recorded, {}).directory.name == "b"
        assert began.count("a") == began.count("b") == 1


def test_what_is_not_needed_any_more_is_stopped(runs: RayRuns, recorded: Recorded) -> None:
    with runs:
        scheduler = Scheduler.latest
        runs.ahead((name, recorded, {}) for name in "abcdef")
        runs.run("a", recorded, {})
        began = set(scheduler.began)
        running = {named(each) for each in scheduler.running}
        assert runs.running == running < began < set("abcdef")
        runs.drop()
        assert set(scheduler.stopped) == running and not runs.running
        runs.ahead([("g", recorded, {})])
        runs.run("g", recorded, {})
        assert set(scheduler.began) == began | {"g"}
        assert runs.starts == len(began) - len(running) + 1


def test_leaving_stops_what_still_runs(runs: RayRuns, recorded: Recorded) -> None:
    with pytest.raises(KeyboardInterrupt), runs:
        runs.ahead((name, recorded, {}) for name in "ab")
        raise KeyboardInterrupt
    assert len(Scheduler.latest.stopped) == 1


def test_a_probe_that_no_node_can_run_says_why(
    runs: RayRuns, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "NODE_WAIT_S", 0.05)
    with runs:
        wide = {"parallelism.tp": 4}
        runs.ahead([("wide", recorded, wide), ("a", recorded, {})])
        found = runs.run("wide", recorded, wide)
        assert "needs 4 CPU" in found.reason and "no node has more than 2" in found.reason
        assert runs.run("a", recorded, {}).reason == ""


def test_a_node_that_is_gone_for_a_moment_costs_no_probe(runs: RayRuns, recorded: Recorded) -> None:
    """The first probe has ended by then, the second runs on, and the third waits for the node."""
    with runs:
        cluster = Scheduler.latest.cluster
        runs.ahead((name, recorded, {}) for name in "ab")
        for name in ("a", "b", "c"):
            cluster.alive = False
            assert runs.run(name, recorded, {}).dtype == "float32"
        assert Scheduler.latest.looks == 3 and Scheduler.latest.began == ["a", "b", "c"]


def test_invalid_settings_are_told_when_they_are_needed(runs: RayRuns, recorded: Recorded) -> None:
    wrong = {"parallelism.tp": -1}
    with runs:
        runs.ahead([("wrong", recorded, wrong)])
        assert "parallelism.tp" in runs.run("wrong", recorded, wrong).reason


def test_a_full_disk_on_a_node_ends_the_search(runs: RayRuns, recorded: Recorded) -> None:
    with runs, pytest.raises(OSError, match="No space left"):
        Scheduler.latest.lost.add("a")
        runs.run("a", recorded, {})


def probe(tmp_path: Path) -> Job:
    config = RunConfig(output_dir=str(tmp_path / "probes/a"))
    return Job((Point(7, ("a",), config, Composed("")),), Need("CPU", 1))


def test_a_task_has_the_variables_of_the_driver_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}

    def performed(config: RunConfig, *_: Any) -> Done:
        seen.update(os.environ)
        return Done(Path(config.output_dir), "", "rejected")

    monkeypatch.setattr(ray, "performed", performed)
    for name in ("VLLM_OF_BOTH", "VLLM_OF_NODE", "LD_PRELOAD"):
        monkeypatch.setenv(name, "1" if name != "LD_PRELOAD" else "")
    Work(frozenset({"VLLM_OF_BOTH"}))(tmp_path / "ray", probe(tmp_path))
    assert "VLLM_OF_BOTH" in seen and "LD_PRELOAD" in seen and "VLLM_OF_NODE" not in seen
    ended: Ended = read_json(tmp_path / "ray/7" / ENDED, Ended)
    assert ended.done is not None and ended.done.reason == "rejected"
    assert (tmp_path / "ray/7" / record.POINT).is_file()


def test_what_the_search_sets_aside_is_not_in_tasks_even_if_it_loads_code(
    runs: RayRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray starts first, so its workers have the variables that the driver had then."""
    seen: dict[str, str] = {}

    def performed(config: RunConfig, *_: Any) -> Done:
        seen.update(os.environ)
        return Done(Path(config.output_dir), "", "rejected")

    monkeypatch.setattr(ray, "performed", performed)
    names = ("VLLM_TUNED_CONFIG_FOLDER", "LD_AUDIT")
    for each in names:
        monkeypatch.setenv(each, "")
    workers = dict(os.environ)
    with runs:
        for each in names:
            runs.set_aside((each,))
        assert not os.environ.keys() & set(names)
        monkeypatch.setattr(os, "environ", workers)
        Scheduler.latest.work(tmp_path / "ray", probe(tmp_path))
    assert seen and not seen.keys() & set(names)


def test_the_nodes_on_which_probes_ran_are_known(runs: RayRuns, tmp_path: Path) -> None:
    assert runs.nodes == ()
    (tmp_path / ray.PLACE / ENGINES).mkdir(parents=True)
    for number, node in enumerate(("host-b", "host-a", "host-b")):
        engine = EngineRecord((number,), node, "", 1, "2 CPU", 0.0)
        write_json(tmp_path / ray.PLACE / ENGINES / f"{number}.json", engine)
    assert runs.nodes == ("host-a", "host-b")


def test_an_interrupted_task_has_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def performed(*_: Any) -> Done:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "performed", performed)
    with pytest.raises(KeyboardInterrupt):
        Work()(tmp_path / "ray", probe(tmp_path))
    assert read_json(tmp_path / "ray/7" / ENDED, Ended).done is None
    assert not (tmp_path / "ray/7" / record.POINT).exists()


# The words of a sweep.


def test_the_launcher_is_chosen_by_the_words_of_a_sweep() -> None:
    resources = ["hydra/launcher=ray", "hydra.launcher.resources={CPU: 2}"]
    assert chosen(resources) == Options(None, {"CPU": 2}, 2)
    assert chosen([]) is None and chosen(["hydra/launcher=local"]) is None
    address = ["hydra/launcher=ray", "hydra.launcher.address=10.0.0.1:6379"]
    assert chosen(address) == Options("10.0.0.1:6379", {}, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra/launcher=slurm"], "hydra/launcher=slurm: probes run with local or ray"),
        (["hydra.launcher.address=auto"], "add it"),
        (["hydra/launcher=ray", "hydra.launcher.adress=a"], "mean hydra.launcher.address?"),
        (["hydra/launcher=ray", "hydra.launcher.retries=two"], "hydra.launcher.retries=two: "),
        (["hydra/launcher=ray", "hydra.launcher.resources={CPU"], "resources={CPU: "),
    ],
)
def test_a_wrong_launcher_is_one_message(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        chosen(words)
    assert said in error.value.problems[0] and "\n" not in error.value.problems[0]
