"""Ctrl-C and SIGTERM: they stop what may be stopped, and wait for what must be finished."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into one `Interrupted`; after it, both wait for the cleaning up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted

    before = {each: signal.signal(each, interrupt) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            for each, handler in before.items():
                signal.signal(each, handler)


@contextmanager
def deferring() -> Iterator[None]:
    """Let what must be finished finish: Ctrl-C and SIGTERM wait, and come afterwards."""
    came: list[int] = []
    handlers = [signal.SIGINT, signal.SIGTERM]
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in handlers}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if came:
        signal.raise_signal(came[0])
