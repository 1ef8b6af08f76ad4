"""A run with a real engine, to be watched and disturbed while it is going on."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.conftest import Finished, command, unhurried
from tests.events import events
from tests.shared_memory import segments


class Started:
    """A run in the middle of its requests."""

    def __init__(self, where: Path, store: str, *overrides: str, step_s: float = 2.0) -> None:
        self.directory = where / "out"
        self.store = store
        self.shared_memory = segments()
        self.output = where / "printed.txt"
        with self.output.open("w") as stream:
            self.process = subprocess.Popen(
                command(self.directory, store, *overrides),
                cwd=where,
                env=unhurried(step_s),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        self.worker = self.wait_for("worker_started")["pid"]
        self.scratch = Path(psutil.Process(self.worker).cmdline()[-1])

    def wait_for_answers(self) -> None:
        self.wait_for("progress", lambda event: event["done"] > 0)

    def finish(self, timeout: float = 60) -> Finished:
        status = self.process.wait(timeout)
        return Finished(status, self.output.read_text(), self.directory, self.store)

    def family(self) -> list[psutil.Process]:
        """The worker and everything below it."""
        worker = psutil.Process(self.worker)
        return [worker, *worker.children(recursive=True)]

    def wait_for(self, kind: str, when: Any = lambda event: True) -> dict[str, Any]:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.output.read_text()
            for event in events(self.directory / "events.jsonl"):
                if event["event"] == kind and when(event):
                    return event
            time.sleep(0.05)
        raise AssertionError(f"no {kind} in time")
