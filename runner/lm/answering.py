"""What an evaluation needs of a model class, and whom it tells how far it is."""

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

# A task's name, and what runs it to its end.
Named = tuple[str, Callable[[], None]]


class Progress(Protocol):
    """Who is told how far the requests are."""

    def enter(self, task: str) -> None:
        """What follows is about this task."""

    def begin(self, kind: str, total: int) -> None:
        """So many requests come next."""

    def advance(self, requests: int) -> None:
        """So many more have been answered."""

    def beat(self, seconds_left: Callable[[], float | None] | None = None) -> None:
        """The engine has made a step. `seconds_left` estimates when all requests are answered."""

    def end(self) -> None:
        """Nothing waits for the engine; what follows is lm-eval's work."""


class Model(Protocol):
    """One of lm-eval's model classes, recorded."""

    def start(self) -> None:
        """Start the engine; before it, requests can be built, and nothing asked."""

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Raise a UserError for generation settings that the engine would refuse."""

    def begin(self, window: int | None, journal: Journal | None) -> None:
        """Another run, with so many requests in flight, or as many as the engine runs at once."""

    def fed(self) -> Feeding:
        """How the engine was fed in this run."""

    def together(self, tasks: Sequence[Named], batch_size: str, chat: bool) -> None:
        """Run tasks that ask in chunks of the same size, all with a chat template or without."""

    def spent(self) -> float:
        """Seconds that the task which calls it has taken so far."""

    def answers_to(self, request: Any) -> list[tuple[Answer, bool]]:
        """The engine's answer to each repeat of a request, and whether its prompt was cut to fit.

        Empty for a request that was not asked.
        """


@dataclass(frozen=True)
class Request:
    """A question as the journal knows it (`runner.lm.journal.Asked`), for a model `InTurn`."""

    prompt: dict[str, Any]
    kind: str
    settings: str = ""
    drawn: bool = False


class InTurn:
    """A `Model` whose tasks run one after another, in batches of its own.

    It asks with `recall` what the journal knows of a request, and hands it each batch's answers.
    """

    progress: Progress
    _journal: Journal | None = None
    _since = 0.0
    _asked = _resumed = _steps = 0
    _seconds = 0.0

    def begin(self, window: int | None, journal: Journal | None) -> None:
        """Another run, of which nothing has been asked. The window is each task's batch."""
        self._journal = journal
        self._asked = self._resumed = self._steps = 0
        self._seconds = 0.0

    def fed(self) -> Feeding:
        """How many requests were asked, in which time; not how busy that kept the engine."""
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
        """While so many requests are answered."""
        since = time.monotonic()
        self.progress.begin(kind, total)
        yield
        self.progress.end()
        self._seconds += time.monotonic() - since

    def step(self) -> None:
        """The engine has made one."""
        self._steps += 1
        self.progress.beat()

    def recall(self, question: Asked) -> tuple[Hashable, Answer | None]:
        """What to `keep` its answer under, and the answer that an attempt that died has got."""
        key, known = self._journal.take(question) if self._journal is not None else (None, None)
        if known is None:
            self._asked += 1
        else:
            self._resumed += 1
        return key, known

    def keep(self, answered: Sequence[tuple[Hashable, Answer]]) -> None:
        """A batch's answers, which no death of this process loses from here on."""
        if self._journal is not None:
            for key, answer in answered:
                self._journal.keep(key, answer)
            self._journal.flush()
