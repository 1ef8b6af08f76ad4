"""What an evaluation needs of a model class, and whom it tells how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from runner.lm.answer import Answer

if TYPE_CHECKING:
    from runner.lm.journal import Journal
    from runner.outcome import Feeding

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

    def beat(self) -> None:
        """The engine has made a step."""

    def end(self) -> None:
        """Nothing waits for the engine; what follows is lm-eval's work."""


class Model(Protocol):
    """One of lm-eval's model classes, recorded."""

    def begin(self, window: int | None, journal: Journal | None) -> None:
        """Another run, with so many requests in flight, or as many as the engine runs at once."""

    def fed(self) -> Feeding | None:
        """How the engine was fed in this run, where that is the runner's doing."""

    def together(self, tasks: Sequence[Named], batch_size: str, chat: bool) -> None:
        """Run tasks that ask in chunks of the same size, all with a chat template or without."""

    def spent(self) -> float:
        """Seconds that the task which calls it has taken so far."""

    def answer_to(self, request: Any) -> tuple[Answer | None, bool]:
        """The engine's answer to an asked request, and whether its prompt was cut to fit."""


class InTurn:
    """A `Model` whose tasks run one after another, in batches of its own."""

    progress: Progress
    _since = 0.0

    def begin(self, window: int | None, journal: Journal | None) -> None:
        """Nothing is left of a run before."""

    def fed(self) -> Feeding | None:
        return None

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
