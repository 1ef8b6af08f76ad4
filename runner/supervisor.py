"""Owns the worker process: starts it, follows its events, and leaves nothing of it behind."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from runner.config import LimitsConfig
from runner.interruption import Interrupted, deferring, interruptible
from runner.limits import Watch
from runner.outcome import Outcome, State
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json, write_json
from runner.worker_process import Worker

LOG_TAIL_LINES = 20


class Display(Protocol):
    """Who shows a person how the run goes."""

    def show(self, event: dict[str, Any]) -> None: ...


class Supervisor:
    """Keeps one worker, for as long as runs want the same engine."""

    def __init__(self) -> None:
        self.starts = 0
        self._worker: Worker | None = None
        self._engine = ""

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def evaluate(
        self, plan: Plan, run: RunDirectory, display: Display, limits: LimitsConfig
    ) -> Outcome:
        """Evaluate on the engine that is there, or on a new one; an interruption is an Outcome too.

        After anything but a whole run, or a refusal, the worker is not trusted again.
        """
        try:
            with interruptible():
                return self._attempt(plan, run, display, Watch(limits, time.monotonic()))
        except Interrupted:
            self.stop()
            return _ended(run, State.INTERRUPTED, "interrupted")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the worker, if there is one; an interruption waits for it."""
        with deferring():
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.stop()

    def _attempt(self, plan: Plan, run: RunDirectory, display: Display, watch: Watch) -> Outcome:
        def tell(event: dict[str, Any]) -> None:
            with run.events.open("a", encoding="utf-8") as log:
                log.write(json.dumps(event) + "\n")
            display.show(event)

        broken = self._worker_for(plan, run).evaluate(run, tell, watch)
        if broken:
            self.stop()
            return _ended(run, State.ERROR, broken)
        outcome: Outcome = read_json(run.outcome, Outcome)
        if outcome.state not in (State.COMPLETED, State.REFUSED):
            self.stop()
        return outcome

    def _worker_for(self, plan: Plan, run: RunDirectory) -> Worker:
        worker = self._worker
        if worker is not None and not (worker.alive and self._engine == plan.engine_fingerprint):
            self.stop()
        if self._worker is None:
            self._worker = Worker(plan, run.engine_log)
            self._engine = plan.engine_fingerprint
            self.starts += 1
        return self._worker


def _ended(run: RunDirectory, state: State, reason: str) -> Outcome:
    """An end that the worker did not report itself; the tasks that it had finished stay."""
    found = read_json(run.outcome, Outcome) if run.outcome.exists() else Outcome(state)
    outcome: Outcome = replace(found, state=state, reason=reason)
    write_json(run.outcome, outcome)
    return outcome


def log_tail(log: Path) -> str:
    """The last lines of the engine's log."""
    if not log.exists():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:])
