"""Interfaces between an evaluation, its model class and the progress report."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from runner.lm.answer import Answer
from runner.outcome import Feeding

if TYPE_CHECKING:
    from runner.lm.journal import Asked, Journal

# A task's name and the function that runs the task to completion.
Named = tuple[str, Callable[[], None]]


class Progress(Protocol):
    """Receives the progress of an evaluation's requests."""

    def enter(self, task: str) -> None:
        """Start reporting on this task."""

    def begin(self, kind: str, total: int) -> None:
        """Start a batch of `total` requests."""

    def advance(self, requests: int) -> None:
        """Record that `requests` more requests have been answered."""

    def beat(self, seconds_left: Callable[[], float | None] | None = None) -> None:
        """Record an engine step. `seconds_left` estimates the time until all answers are there."""

    def end(self) -> None:
        """Record that no request is waiting for the engine; lm-eval's own work follows."""


class Model(Protocol):
    """One of lm-eval's model classes, with its answers recorded."""

    def start(self) -> None:
        """Start the engine. Before that, requests can be built but not sent."""

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Raise a UserError for generation settings that the engine would reject."""

    def begin(self, window: int | None, journal: Journal | None) -> None:
        """Prepare for another run.

        `window` is the number of concurrent requests; None lets the model choose.
        """

    def fed(self) -> Feeding:
        """Engine usage in this run."""

    def together(self, tasks: Sequence[Named], batch_size: str, chat: bool) -> None:
        """Run tasks that share a batch size and all use, or all don't use, a chat template."""

    def spent(self) -> float:
        """Seconds that the calling task has taken so far."""

    def answers_to(self, request: Any) -> list[tuple[Answer, bool]]:
        """The answer to each repeat of a request, and whether its prompt was truncated to fit.

        Empty for a request that was not sent.
        """


@dataclass(frozen=True)
class Request:
    """A request of an `InTurn` model, as the journal sees it (`runner.lm.journal.Asked`)."""

    prompt: dict[str, Any]
    kind: str
    settings: str = ""
    drawn: bool = False


class InTurn:
    """Base class of models that run tasks one after another, in batches of their own.

    Subclasses look up each request in the journal with `recall` and save each batch with `keep`.
    """

    progress: Progress
    _journal: Journal | None = None
    _since = 0.0
    _asked = _resumed = _steps = 0
    _seconds = 0.0

    def begin(self, window: int | None, journal: Journal | None) -> None:
        """Prepare for another run. `window` is ignored: each task's batch size is the window."""
        self._journal = journal
        self._asked = self._resumed = self._steps = 0
        self._seconds = 0.0

    def fed(self) -> Feeding:
        """Number of requests and the time they took; the engine's busy share is not measured."""
        return Feeding(
            window=int(self.batch_size),
            steps=self._steps,
            asked=self._asked,
            resumed=self._resumed,
            seconds=self._seconds,
        )

    def together(self, tasks: Sequence[Named], batch_size: str, chat: bool) -> None:
        self.batch_size: int | str = batch_size if batch_size == "auto" else int(batch_size)
        for name, run in tasks:
            self.progress.enter(name)
            self._since = time.monotonic()
            run()
            self.forget()

    def forget(self) -> None:
        """Drop the answers of the task that has ended."""

    def spent(self) -> float:
        return time.monotonic() - self._since

    @contextmanager
    def asking(self, kind: str, total: int) -> Iterator[None]:
        """Report progress and measure time while `total` requests are answered."""
        since = time.monotonic()
        self.progress.begin(kind, total)
        yield
        self.progress.end()
        self._seconds += time.monotonic() - since

    def step(self) -> None:
        """Record one engine step."""
        self._steps += 1
        self.progress.beat()

    def recall(self, question: Asked) -> tuple[Hashable, Answer | None]:
        """The key to `keep` the answer under, and an earlier attempt's answer if there is one."""
        key, known = self._journal.take(question) if self._journal is not None else (None, None)
        if known is None:
            self._asked += 1
        else:
            self._resumed += 1
        return key, known

    def keep(self, answered: Sequence[tuple[Hashable, Answer]]) -> None:
        """Save a batch's answers. After this call they survive the death of this process."""
        if self._journal is not None:
            for key, answer in answered:
                self._journal.keep(key, answer)
            self._journal.flush()
