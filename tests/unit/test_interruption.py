"""Signals wait, stop, or both, whatever encloses what."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from runner.supervision.interruption import Interrupted, deferring, interruptible

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {each: signal.signal(each, signal.default_int_handler) for each in BOTH}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("number", BOTH)
def test_what_is_to_be_finished_is_finished_first(number: int) -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), deferring():
        signal.raise_signal(number)
        done = True
    assert done


@pytest.mark.parametrize("number", BOTH)
def test_what_came_before_the_interruptible_part_stops_it_at_its_beginning(number: int) -> None:
    with deferring():
        signal.raise_signal(number)
        with pytest.raises(Interrupted), interruptible():
            raise AssertionError("it has begun")
        signal.raise_signal(number)  # ignored, once one has been heeded
    signal.raise_signal(number)


def test_behind_the_interruptible_part_both_wait_again() -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), deferring():
        with interruptible():
            pass
        signal.raise_signal(signal.SIGINT)
        done = True
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_inner_deferring_hands_on_to_the_outer() -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), deferring():
        with deferring():
            signal.raise_signal(signal.SIGTERM)
        done = True
    assert done
