"""Ctrl-C and SIGTERM: they stop what may be stopped, and wait for what must be finished."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# What came during each `deferring` that is open, the innermost last.
_deferred: list[list[int]] = []


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM."""


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
        if _deferred and _deferred[-1]:
            interrupt(_deferred[-1].pop(), None)
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            for each, handler in before.items():
                signal.signal(each, handler)


@contextmanager
def deferring() -> Iterator[None]:
    """Let what must be finished finish: Ctrl-C and SIGTERM wait, and come afterwards."""
    came: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {each: signal.signal(each, wait) for each in (signal.SIGINT, signal.SIGTERM)}
    _deferred.append(came)
    try:
        yield
    finally:
        _deferred.pop()
        if signal.getsignal(signal.SIGINT) is wait:
            for each, handler in before.items():
                signal.signal(each, handler)
    if came:
        signal.raise_signal(came[0])
