"""Sends the worker's events, and the progress of its tasks, to the supervisor."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.channel.lines import Outbox
from runner.channel.worker import (
    MISSING,
    Event,
    Heartbeat,
    Progress,
    RequestsFinished,
    Stage,
    StageBegun,
    Warned,
)

HEARTBEAT_S = 1.0
PROGRESS_S = 0.1


@dataclass
class Reporter:
    """Implements `runner.lm.answering.Progress`."""

    events: Outbox[Event]
    names: list[str] = field(default_factory=list)
    task: str = ""
    done: int = 0
    total: int = 0
    steps: int = 0
    beaten: float = -math.inf
    told: int = 0
    told_at: float = -math.inf

    def send(self, event: Event) -> None:
        self.events.send(event)

    def stage(self, stage: Stage) -> None:
        """Report that a stage begins."""
        self.send(StageBegun(stage))

    def warn(self, text: str) -> None:
        """Report what the user should know."""
        self.send(Warned(text))

    def enter(self, task: str) -> None:
        self.task = task

    def begin(self, kind: str, total: int) -> None:
        self.done, self.total = 0, total
        self._progress(kind)

    def advance(self, requests: int) -> None:
        """Count answered requests, and report them at most ten times a second and at the end.

        An event for each answer would cost 0.1 ms.
        """
        self.done += requests
        if not requests or self.done >= self.total or time.monotonic() - self.told_at >= PROGRESS_S:
            self._progress()

    def beat(
        self,
        seconds_left: Callable[[], float | None] | None = None,
        tokens: Callable[[], int | None] | None = None,
    ) -> None:
        """Count an engine step, and report the steps once a second."""
        self.steps += 1
        now = time.monotonic()
        if self.told < self.done and now - self.told_at >= PROGRESS_S:
            self._progress()
        if now - self.beaten >= HEARTBEAT_S:
            self.beaten = now
            left = MISSING if seconds_left is None else seconds_left()
            made = tokens() if tokens is not None else None
            self.send(Heartbeat(self.steps, left, made))

    def end(self) -> None:
        self.send(RequestsFinished(self.task, self.steps))

    def _progress(self, kind: str = "") -> None:
        self.told, self.told_at = self.done, time.monotonic()
        number = self.names.index(self.task) + 1
        self.send(Progress(self.task, number, len(self.names), self.done, self.total, kind))
