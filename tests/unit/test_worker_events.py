"""What the worker tells the supervisor, and how often."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import IO, Any

import pytest

from runner.channel.lines import Outbox
from runner.channel.worker import EVENTS
from runner.lm.reporter import Reporter

Told = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    watch = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("runner.lm.reporter.time", watch)
    return now


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], Told]]:
    """Where events go, and what has arrived since it was asked last."""
    read, write = os.pipe()

    def told() -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(read, 1 << 20).decode().splitlines()]

    with os.fdopen(write, "wb") as stream:
        yield stream, told
    os.close(read)


@pytest.fixture
def reporter(clock: list[float], pipe: tuple[IO[bytes], Told]) -> Reporter:
    """At the beginning of a task of 1,000 requests."""
    reporter = Reporter(Outbox(pipe[0], EVENTS), names=["gsm8k"])
    reporter.enter("gsm8k")
    reporter.begin("generate_until", 1000)
    return reporter


def test_progress_is_told_ten_times_a_second_and_at_the_end(
    clock: list[float], pipe: tuple[IO[bytes], Told], reporter: Reporter
) -> None:
    _, told = pipe
    for _ in range(1000):
        clock[0] += 0.001
        reporter.advance(1)
    done = [each["done"] for each in told()]
    assert len(done) <= 12
    assert (done[0], done[-1]) == (0, 1000)
    assert done == sorted(set(done))


def test_answers_that_came_with_one_step_are_told_by_the_next(
    clock: list[float], pipe: tuple[IO[bytes], Told], reporter: Reporter
) -> None:
    _, told = pipe
    for _ in range(256):  # all at once, as a step has them
        reporter.advance(1)
    clock[0] += 2.0
    reporter.beat()
    assert [e["done"] for e in told() if e["event"] == "progress"][-1] == 256
    reporter.beat()
    reporter.end()
    assert [e["event"] for e in told()] == ["requests_finished"]
