"""Sweeps on Ray as a user starts them: real engines, and two nodes of which one is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.sweep_packing import timeline, used_twice
from runner.supervision.processes import shared_memory_of
from runner.sweep.ray_task import ENGINES
from tests.e2e.conftest import unhurried
from tests.events import events

pytestmark = pytest.mark.slow

# Two engines that differ in width; the wide one starts first.
SWEEP = (
    "--multirun",
    "hydra/launcher=ray",
    "model=canary_vl",
    "limits=none",
    "task.limit=4",
    "parallelism.tp=1,2",
)
ENDED = (0, 3, 4)  # passed, failed, or inconclusive with so few samples


@dataclass(frozen=True)
class Started:
    """A sweep that runs, and what it has printed."""

    process: subprocess.Popen[str]
    sweep: Path
    output: Path

    def wait_for(self, there: Callable[[], Any], seconds: float = 400) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := there():
                return found
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.05)
        raise AssertionError(f"not in time:\n{self.output.read_text()}")

    def worker(self, number: int) -> int | None:
        """The process id of the point's engine, once it answers."""
        told = events(self.sweep / str(number) / "events.jsonl")
        if not any(event["event"] == "engine_started" for event in told):
            return None
        return next(event["pid"] for event in told if event["event"] == "worker_started")

    def finish(self, seconds: float = 600) -> tuple[int, str]:
        return self.process.wait(seconds), self.output.read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start a process in a directory of its own; nothing of it stays."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*command: str, step_s: float = 2.0) -> Started:
        output = tmp_path / f"printed-{len(processes)}.txt"
        with output.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=tmp_path,
                env=unhurried(step_s),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
            )
        processes.append(process)
        return Started(process, tmp_path / "sweep", output)

    yield begin
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()


def point(sweep: Path, number: int, name: str = "point.json") -> Any:
    return json.loads((sweep / str(number) / name).read_text())


@pytest.mark.exhaustive
def test_a_killed_engine_costs_its_point_and_the_next_start_does_what_is_missing(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    where = (f"hydra.sweep.dir={tmp_path / 'sweep'}", f"tracking.uri={store}")
    first = start("-m", "runner", *SWEEP, *where)
    worker = psutil.Process(first.wait_for(lambda: first.worker(1)))
    worker.suspend()
    engine = [worker, *worker.children(recursive=True)]
    family = [*engine, *psutil.Process(first.process.pid).children()]
    held = shared_memory_of(engine)
    worker.kill()
    status, said = first.finish()

    assert status == 2, said
    assert point(first.sweep, 1)["status"] == 2
    assert "SIGKILL" in point(first.sweep, 1, "verdict.json")["reason"]
    whole = point(first.sweep, 0, "verdict.json")
    assert point(first.sweep, 0)["status"] in ENDED, said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
    assert [segment for segment in held if segment.exists()] == []

    second = start("-m", "runner", *SWEEP, *where, step_s=0.0)
    status, said = second.finish()
    assert status in ENDED, said
    assert "1 of 2 points already done" in said
    assert point(second.sweep, 0, "verdict.json") == whole
    assert point(second.sweep, 1)["status"] in ENDED
    assert len(list((second.sweep / "0").glob("samples.parquet"))) == 1
    assert recorded(store) == ["FAILED", "FINISHED", "FINISHED"]


def recorded(store: str) -> list[str]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    ids = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(ids)  # the sweep's comparison is one too, without a plan
    return sorted(run.info.status for run in runs if "engine_fingerprint" in run.data.tags)


DRIVER = """
import sys
from pathlib import Path
from rich.console import Console
from benchmarks.sweep_packing import sleeper, stand_in
from runner.sweep.ray_run import Run
from runner.sweep.ray_cluster import connected
with connected(sys.argv[1], {}) as cluster:
    jobs = [sleeper(number, 1, 25, points=2) for number in (0, 10, 20, 30)]
    Run(Path("sweep").resolve(), cluster, stand_in, Console(), 2).perform(jobs)
"""


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "resources": {"NPU": 2}, "include_dashboard": False},
    )
    try:
        cluster.add_node(num_cpus=1, resources={"NPU": 2}, include_dashboard=False)
        yield cluster
    finally:
        cluster.shutdown()


def test_the_points_of_a_node_that_is_lost_run_again_elsewhere(
    start: Callable[..., Started], two_nodes: Any
) -> None:
    driver = start("-c", DRIVER, two_nodes.address)
    engines = driver.sweep / ENGINES
    driver.wait_for(lambda: len(list(engines.glob("*.json"))) == 4)
    driver.wait_for(lambda: len(list(driver.sweep.glob("[0-9]*/point.json"))) == 4)
    lost = next(node for node in two_nodes.worker_nodes)
    before = {span.number: span for span in timeline(driver.sweep)}
    on_lost = {number for number, span in before.items() if span.node == lost.node_id}
    assert len(on_lost) == 2  # both nodes are full
    two_nodes.remove_node(lost, allow_graceful=False)
    status, said = driver.finish()

    assert status == 0, said
    for number in before:
        assert point(driver.sweep, number)["status"] == 0
        assert point(driver.sweep, number + 1)["status"] == 0
    spans = timeline(driver.sweep)
    again = [span for span in spans if span not in before.values() and span.end > span.start]
    # What had ended before the loss does not run again: the second point of each engine does.
    assert {span.number for span in again} >= {number + 1 for number in on_lost}, said
    kept = {span.node for span in before.values()} - {lost.node_id}
    assert {span.node for span in again} == kept
    assert used_twice(spans) == []
    assert said.count("retrying unfinished points (1 of 2)") == 2
