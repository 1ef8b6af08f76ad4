"""Sweeps with real engines: shared, killed, started again, interrupted."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from runner.processes import group_members
from runner.sweep import record
from runner.sweep.record import SweepRecord
from tests.e2e.conftest import command, environment

pytestmark = pytest.mark.slow
PATIENCE_S = 400.0


@dataclass
class Sweep:
    """A sweep's directory, and what it printed when it was started last."""

    directory: Path
    store: str
    printed: str = ""
    status: int | None = None

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        words = [*command(self.directory, self.store, *overrides)[3:]]
        words = [word for word in words if not word.startswith("output_dir=")]
        runner = command(self.directory, self.store)[:3]
        return subprocess.Popen(
            [*runner, "--multirun", f"hydra.sweep.dir={self.directory}", *words],
            cwd=self.directory.parent,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *overrides: str) -> Sweep:
        return self.finish(self.start(*overrides))

    def finish(self, process: subprocess.Popen[str]) -> Sweep:
        self.printed, _ = process.communicate(timeout=900)
        self.status = process.returncode
        return self

    def read(self) -> SweepRecord:
        found = record.read(self.directory)
        assert found is not None
        return found

    def json(self, number: int, name: str) -> Any:
        return json.loads((self.directory / str(number) / name).read_text())

    def statuses(self) -> list[int | None]:
        return [point.status for point in self.read().points]


def wait_for(what: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.5)
    raise AssertionError("it did not come to that in time")


def worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The process that holds the engine."""
    children = psutil.Process(process.pid).children()
    (worker,) = [child for child in children if "runner.worker" in " ".join(child.cmdline())]
    return worker


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path / "sweep", f"sqlite:///{tmp_path / 'mlflow.db'}")


# Three points on one engine, and one that cannot be.
LIMITS = ("task.limit=2,4,6", "verdict.rtol=9", "engine.max_model_len=1024,9999")


def test_a_killed_engine_costs_one_point_and_a_second_start_makes_up_for_it(sweep: Sweep) -> None:
    process = sweep.start(*LIMITS)
    wait_for((sweep.directory / "0" / "point.json").is_file)
    wait_for((sweep.directory / "2" / "events.jsonl").is_file)
    worker_of(process).kill()
    sweep.finish(process)
    assert sweep.status == 2, sweep.printed
    # Points 1, 3 and 5 have a length that the model does not know.
    assert sweep.statuses() == [0, 1, 2, 1, 0, 1], sweep.printed
    assert sweep.json(2, "verdict.json")["status"] == "ERROR"
    assert "the worker process died (signal SIGKILL)" in sweep.printed
    assert "3 to run on 1 engine, 2 engine starts saved" in sweep.printed
    for number in (1, 3, 5):
        assert f"point {number} (limit={number + 1} max_model_len=9999) is refused" in sweep.printed

    kept = sweep.json(0, "outcome.json")
    assert sweep.run(*LIMITS).status == 1, sweep.printed
    assert sweep.statuses() == [0, 1, 0, 1, 0, 1]
    assert "2 done before, 1 to run on 1 engine" in sweep.printed
    assert sweep.json(0, "outcome.json") == kept
    assert (sweep.directory / "earlier" / "2" / "verdict.json").is_file()


def test_points_of_one_engine_have_their_own_log_and_start_it_once(sweep: Sweep) -> None:
    assert sweep.run("task.limit=2,4", "verdict.rtol=9").status == 0, sweep.printed
    first, second = (sweep.json(number, "outcome.json") for number in (0, 1))
    assert first["timings"]["start_engine_s"] > 5
    assert second["timings"]["start_engine_s"] < 1
    assert sweep.printed.count("starting engine …") == 1
    assert second["engine"] == first["engine"]
    logs = [(sweep.directory / number / "engine.log").read_text() for number in ("0", "1")]
    assert "Initializing" in logs[0]
    assert "Initializing" not in logs[1]
    plans = [sweep.json(number, "plan.json") for number in (0, 1)]
    assert plans[0]["engine_fingerprint"] == plans[1]["engine_fingerprint"]
    for said in ("sweep.md", "sweep.csv"):
        assert (sweep.directory / said).is_file()
    assert re.search(r"compare-runs\?runs=", sweep.printed)


def test_one_interruption_finishes_the_point_and_stops_the_sweep(sweep: Sweep) -> None:
    process = sweep.start("task.limit=2,600", "verdict.rtol=9")
    wait_for((sweep.directory / "1" / "events.jsonl").is_file)
    time.sleep(2)
    engine = worker_of(process).pid
    process.send_signal(signal.SIGINT)
    sweep.finish(process)
    assert sweep.status == 130, sweep.printed
    assert sweep.statuses() == [0, 130]
    assert sweep.json(1, "verdict.json")["status"] == "INTERRUPTED"
    assert group_members(engine) == []
    assert (sweep.directory / "sweep.md").is_file()


def test_a_strict_sweep_with_a_refused_point_starts_nothing(sweep: Sweep) -> None:
    sweep.run("engine.max_model_len=1024,9999", "sweep.strict=true")
    assert sweep.status == 1, sweep.printed
    assert "sweep.strict=true: a point was refused, so none is run" in sweep.printed
    assert "starting engine" not in sweep.printed
