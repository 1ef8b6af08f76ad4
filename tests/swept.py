"""A sweep with real engines, started as a user starts it, and looked at while it runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from runner.sweep import record
from runner.sweep.record import SweepRecord
from tests.e2e.conftest import unhurried
from tests.events import events

PATIENCE_S = 400.0


@dataclass
class Swept:
    """A sweep's directory, and what it printed when it was started last."""

    directory: Path
    store: str
    printed: str = ""
    status: int | None = None

    def start(self, *overrides: str, step_s: float = 2.0) -> subprocess.Popen[str]:
        """Start the sweep; a step of an engine takes at least `step_s` seconds."""
        where = [f"hydra.sweep.dir={self.directory}", f"tracking.uri={self.store}"]
        return subprocess.Popen(
            [sys.executable, "-m", "runner", "--multirun", *where, *overrides],
            cwd=self.directory.parent,
            env=unhurried(step_s),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *overrides: str) -> Swept:
        """Run the sweep undisturbed, so without slowed steps."""
        return self.finish(self.start(*overrides, step_s=0.0))

    def finish(self, process: subprocess.Popen[str]) -> Swept:
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

    def events(self, number: int) -> list[str]:
        """What the point's worker has said of itself yet."""
        file = self.directory / str(number) / "events.jsonl"
        return [each["event"] for each in events(file)]


def wait_for(what: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that in time")


def worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The process that holds the engine."""
    children = psutil.Process(process.pid).children()
    (worker,) = [child for child in children if "runner.worker" in " ".join(child.cmdline())]
    return worker
