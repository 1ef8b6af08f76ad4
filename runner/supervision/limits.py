"""Enforce a run's time limits from the events of its worker.

Three clocks, all monotonic. `start_s` runs until the engine is ready. `stall_s` runs while the
engine owes answers, and starts anew with each token and each answer; it stands while lm-eval
loads tasks, scores and aggregates. `run_s` runs from the first attempt to the end of the last.

A step stands for a token: vLLM's core, in a process of its own, sends word only of steps that
brought one (v1/engine/core.py, `_process_engine_step`), so one that steps in vain stalls too.
"""

from __future__ import annotations

import time

from runner.channel.worker import (
    EngineStarted,
    Event,
    Heartbeat,
    Progress,
    RequestsFinished,
    StageBegun,
    TaskFinished,
)
from runner.config.schema import LimitsConfig
from runner.supervision.failures import Failure

# A front end of vLLM's (0.32, SyncMPClient) may wait for ever for a core that was killed; one that
# notices says so at once. Long enough for any single step.
BEREAVED_S = 60.0


class Watch:
    """Follows the events of one attempt and detects exceeded limits."""

    def __init__(self, limits: LimitsConfig, run_began: float) -> None:
        """`run_began` is the monotonic time at which the run's first attempt began."""
        self._limits = limits
        self._run_began = run_began
        self._began = self._seen = time.monotonic()
        self._starting, self._asking = True, False
        self._doing, self._answered, self._steps = "starting the worker", "", 0
        self._lost = ""

    def see(self, event: Event) -> None:
        """Record one event of the worker."""
        self._seen = time.monotonic()
        match event:
            case StageBegun(stage):
                self._doing = stage.value
            case EngineStarted():
                self._starting, self._doing = False, "engine started"
            case Progress(task, done=done, total=total):
                self._asking, self._doing = True, f"evaluating {task}"
                self._answered = f", {done} of {total} requests answered"
            case Heartbeat(steps):
                self._steps = steps
            case RequestsFinished(task):
                self._asking, self._answered = False, ""
                self._doing = f"scoring {task}"
            case TaskFinished(task):
                self._doing = f"{task} finished"

    def lose(self, process: str) -> None:
        """Record that a process of the ready engine has ended; it may have been a helper."""
        self._lost = process

    def broken(self) -> Failure | None:
        """Return the exceeded limit and the last activity; None if no limit is exceeded.

        A stall may have been the engine's alone. What takes too long will do so again.
        """
        now, limits = time.monotonic(), self._limits
        if limits.run_s is not None and now - self._run_began > limits.run_s:
            return self._said("the run did not finish", "run_s", limits.run_s, now)
        if self._starting and limits.start_s is not None and now - self._began > limits.start_s:
            return self._said("the engine was not ready", "start_s", limits.start_s, now)
        if self._asking and limits.stall_s is not None and now - self._seen > limits.stall_s:
            return self._said("the engine produced no token", "stall_s", limits.stall_s, now)
        if self._asking and self._lost and now - self._seen > BEREAVED_S:
            said = f"an engine process died ({self._lost}), and the engine made no further step"
            return Failure(f"{said}; {self._last_sign(now)}", transient=True)
        return None

    def _said(self, what: str, name: str, limit: float, now: float) -> Failure:
        said = f"{what} within limits.{name}={limit:g} seconds; {self._last_sign(now)}"
        return Failure(said, transient=name == "stall_s")

    def _last_sign(self, now: float) -> str:
        steps = f", engine step {self._steps}" if self._steps else ""
        before = f"{now - self._seen:.0f} s before"
        return f"last activity {before}: {self._doing}{self._answered}{steps}"
