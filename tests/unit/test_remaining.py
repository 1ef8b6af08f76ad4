"""The time left, on simulated engines whose answers are mostly short and sometimes very long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from runner.runtimes.vllm import remaining
from runner.runtimes.vllm.remaining import Clock, Queue

WINDOW, TOTAL, LONGEST = 64, 600, 2048
Lengths = Callable[[np.random.Generator], Any]
LENGTHS: dict[str, Lengths] = {
    "equal": lambda random: np.full(TOTAL, 40.0),
    "exponential": lambda random: random.exponential(150, TOTAL) + 5,
    "log-normal": lambda random: np.exp(random.normal(5, 1, TOTAL)),
    "Pareto": lambda random: 50 * random.random(TOTAL) ** (-1 / 1.3),
    "one in a hundred never stops": lambda random: np.where(
        random.random(TOTAL) < 0.01, LONGEST, np.exp(random.normal(4.5, 0.5, TOTAL))
    ),
}


def steps_left(queue: Queue) -> float:
    """What is known where half of the lengths are."""
    found = remaining.steps_left(queue)
    assert found is not None
    return found


def engine(lengths: list[int], every: int, in_chunks: bool = False) -> Iterator[tuple[Queue, int]]:
    """What is known after each `every` steps, and the step: requests start as there is room."""
    waiting, finished, step, number = list(lengths), list[int](), 0, 0
    flying: dict[int, tuple[int, int]] = {}
    while waiting or flying:
        while waiting and len(flying) < WINDOW and not (in_chunks and under_way(flying, step)):
            flying[number] = (step, waiting.pop(0))
            number += 1
        step += 1
        for each in [n for n, (since, length) in flying.items() if step - since >= length]:
            since, _ = flying.pop(each)
            finished.append(step - since)
        if step % every == 0:
            ages = [step - since for since, _ in flying.values()]
            yield Queue(list(finished), ages, len(waiting), WINDOW, LONGEST, in_chunks), step
    yield Queue(finished, [], 0, WINDOW, LONGEST, in_chunks), step


def under_way(flying: dict[int, tuple[int, int]], step: int) -> bool:
    """Whether a chunk is under way."""
    return any(since < step for since, _ in flying.values())


def ratios(kind: str, seed: int, in_chunks: bool = False) -> tuple[list[float], list[float]]:
    """Estimated over true steps: of the estimate, and of finished requests alone."""
    lengths = np.clip(LENGTHS[kind](np.random.default_rng(seed)), 1, LONGEST).astype(int).tolist()
    *seen, (_, end) = engine(lengths, 80, in_chunks)
    estimated, plain = [], []
    for queue, step in seen:
        # In the last steps a ratio says little.
        if len(queue.finished) < TOTAL * 0.05 or end - step < 40:
            continue
        left = remaining.steps_left(queue)
        if left is None:
            continue
        estimated.append(left / (end - step))
        rest = queue.waiting + len(queue.ages)
        plain.append(rest * step / len(queue.finished) / (end - step))
    return estimated, plain


@pytest.mark.parametrize("in_chunks", [False, True], ids=["window", "chunks"])
@pytest.mark.parametrize("kind", LENGTHS)
def test_the_estimate_is_of_the_right_size_all_along(kind: str, in_chunks: bool) -> None:
    found = [ratio for seed in range(2) for ratio in ratios(kind, seed, in_chunks)[0]]
    low, middle, high = np.quantile(found, [0.05, 0.5, 0.95])
    assert low > 0.25 and 0.5 < middle < 2 and high < 4


@pytest.mark.parametrize("kind", ["log-normal", "Pareto", "one in a hundred never stops"])
def test_a_long_tail_is_believed(kind: str) -> None:
    """Finished requests alone promise a small part of what the tail takes."""
    estimated, plain = ratios(kind, seed=0)
    assert np.median(plain) < 0.5 < np.median(estimated)


def test_two_runaway_answers_take_what_is_left_to_the_limit() -> None:
    finished = [30 + number % 50 for number in range(598)]
    nearly = steps_left(Queue(finished, [1000, 1000], 0, WINDOW, 2048))
    assert 500 < nearly <= 1048
    at_the_limit = steps_left(Queue(finished, [2040, 2040], 0, WINDOW, 2048))
    assert 1 <= at_the_limit <= 8


def test_answers_of_an_earlier_attempt_take_no_steps() -> None:
    fresh = steps_left(Queue([40] * 100, [20] * 4, 1000, 4, 512))
    half = steps_left(Queue([40, 0] * 50, [20] * 4, 1000, 4, 512))
    assert half == pytest.approx(fresh / 2, rel=0.1)


def test_the_same_knowledge_gives_the_same_estimate() -> None:
    queue = Queue([3, 50, 7, 9, 200, 1, 4, 8], [5, 60], 40, 2, 512)
    assert steps_left(queue) == steps_left(queue)


@pytest.mark.parametrize("waiting", [0, 1, 10_000])
@pytest.mark.parametrize("ages", [[], [0], [1, 500]])
@pytest.mark.parametrize("finished", [[0] * 8, [1] * 8, list(range(8)), [5000] * 8])
@pytest.mark.parametrize("longest", [0.0, 1.0, 512.0])
def test_any_queue_has_an_estimate(
    finished: list[int], ages: list[int], waiting: int, longest: float
) -> None:
    for in_chunks in (False, True):
        found = steps_left(Queue(finished, ages, waiting, 2, longest, in_chunks))
        assert np.isfinite(found) and found >= bool(ages)


def test_seconds_follow_the_speed_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("runner.runtimes.vllm.remaining.time.monotonic", lambda: now)
    clock, queue = Clock(), Queue([40] * 100, [39], 0, 1, 512)
    assert clock.seconds_left(queue, 20) is None  # no speed yet
    for step in range(21, 32):
        now += 2.0
        slow = clock.seconds_left(queue, step)
    assert slow == pytest.approx(2.0)
    for step in range(1, 12):
        now += 2.0
        fast = clock.seconds_left(queue, 31 + 10 * step)
    assert fast == pytest.approx(0.2)
    assert clock.seconds_left(Queue([40] * 7, [1], 5, 1, 512), 999) is None  # too few finished
