"""Runs tasks one after another, in batches of the model's own; keeps each batch in the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.lm.answer import Answer
from runner.outcome import Feeding

if TYPE_CHECKING:
    from runner.lm.answering import Named, Progress
    from runner.lm.journal import Asked, Journal


@dataclass(frozen=True)
class Request:
    """A request as the journal sees it (`runner.lm.journal.Asked`)."""

    prompt: dict[str, Any]
    kind: str
    settings: str = ""
    drawn: bool = False


class Batches:
    """Progress, journal and counts of the batches of one model.

    The model looks up each request in the journal with `recall` and saves each batch with `keep`.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._since = 0.0
        self._tokens = 0
        self.begin(None)

    def begin(self, journal: Journal | None) -> None:
        """Prepare for another run."""
        self._journal = journal
        self._asked = self._resumed = self._steps = 0
        self._seconds = 0.0

    def fed(self, batch_size: int) -> Feeding:
        """Number of requests and the time they took; the engine's busy share is not measured."""
        return Feeding(
            window=batch_size,
            steps=self._steps,
            asked=self._asked,
            resumed=self._resumed,
            seconds=self._seconds,
        )

    def run(self, tasks: Sequence[Named], ended: Callable[[], None]) -> None:
        """Run each task to its end; call `ended` after each."""
        for name, run in tasks:
            self.progress.enter(name)
            self._since = time.monotonic()
            run()
            ended()

    def spent(self) -> float:
        """Seconds since the current task began."""
        return time.monotonic() - self._since

    @contextmanager
    def asking(self, kind: str, total: int) -> Iterator[None]:
        """Report progress and measure time while `total` requests are answered."""
        since = time.monotonic()
        self._tokens = 0
        self.progress.begin(kind, total)
        yield
        self.progress.end()
        self._seconds += time.monotonic() - since

    def step(self, tokens: int = 0) -> None:
        """Record one step of the model, and the number of tokens that it generated."""
        self._steps += 1
        self._tokens += tokens
        self.progress.beat(tokens=lambda: self._tokens or None)

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
