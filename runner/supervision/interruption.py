"""Handle Ctrl-C and SIGTERM: stop what can stop, defer where work must be finished."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM."""


class _Waiting:
    """The handler of signals that wait."""

    def __init__(self) -> None:
        self.came: list[int] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came.append(number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into one `Interrupted`; after it, both wait for the cleaning up.

    Within `deferring`, what came before this raises at once.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted

    before = {each: signal.signal(each, interrupt) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        waiting = before[signal.SIGINT]
        if isinstance(waiting, _Waiting) and waiting.came:
            interrupt(waiting.came.pop(), None)
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            for each, handler in before.items():
                signal.signal(each, handler)


@contextmanager
def deferring() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM until the block is finished."""
    waiting = _Waiting()
    before = {each: signal.signal(each, waiting) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is waiting:
            for each, handler in before.items():
                signal.signal(each, handler)
    if waiting.came:
        signal.raise_signal(waiting.came[0])
