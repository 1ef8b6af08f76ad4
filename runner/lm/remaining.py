"""Estimates how long the requests at hand will take, from all that is known of their lengths.

A length is the number of engine steps from a request's start to its answer. Finished requests alone
mislead: short answers finish first, and the long ones are left at the end. So requests in flight
count with the steps that they have taken so far (Kaplan and Meier 1958). The longest lengths are
few, and what lies beyond them is unknown: the tail is taken to be exponential or Pareto, each as
probable as it makes the lengths seen. The rest of the run is then simulated, request by request.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Fewer finished requests, or steps of the engine, say too little about the rest.
LEAST_FINISHED, LEAST_STEPS = 8, 20
# The longest fiftieth of the lengths is the tail.
TAIL_SHARE = 0.02
# How much likelier an exponential tail is than Pareto's before any length is seen.
EXPONENTIAL_ODDS = 4
# Of the waiting requests so many windows are simulated; those before them take the average.
SIMULATED_WINDOWS = 4
# Lengths drawn in all, and simulations at least and at most: a few milliseconds.
DRAWN, LEAST_ROUNDS, MOST_ROUNDS = 3000, 9, 49
# An age below any length: a length may be 0.
NOT_STARTED = -1.0
# The engine's speed is taken over as many estimates.
RECENT = 10


@dataclass(frozen=True)
class Queue:
    """Requests of one kind: lengths of the finished ones, ages of those in flight, in steps.

    `waiting` requests follow, at most `window` at once; if `in_chunks`, the next `window` requests
    start when all before them are answered. `longest` is the greatest length that is allowed.
    """

    finished: Sequence[int]
    ages: Sequence[int]
    waiting: int
    window: int
    longest: float
    in_chunks: bool = False


class Clock:
    """Turns steps to come into seconds, at the engine's recent speed."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=RECENT)

    def seconds_left(self, queue: Queue, steps: int) -> float | None:
        """Seconds until all requests are answered; None while too little is known.

        To be called about once a second, with the number of steps that the engine has made.
        """
        self._seen.append((time.monotonic(), steps))
        (then, before), (now, _) = self._seen[0], self._seen[-1]
        left = steps_left(queue) if steps >= LEAST_STEPS else None
        if steps == before or left is None:
            return None
        return left * (now - then) / (steps - before)


def steps_left(queue: Queue) -> float | None:
    """Engine steps until all requests are answered, the median of simulations.

    They are drawn alike each time, so that the estimate moves with what is known only. None while
    half of the lengths are unknown, or fewer than LEAST_FINISHED are known.
    """
    if len(queue.finished) < LEAST_FINISHED:
        return None
    random = np.random.default_rng(0)
    lengths = _Lengths(queue)
    if not lengths.half_known:
        return None
    ages = np.asarray(queue.ages, dtype=float)
    simulated = min(queue.waiting, SIMULATED_WINDOWS * queue.window)
    rounds = min(max(DRAWN // (len(ages) + simulated + 1), LEAST_ROUNDS), MOST_ROUNDS)
    ends = []
    for number in range(rounds):
        pareto = (number + 0.5) / rounds < lengths.pareto
        rest = lengths.draw(random, ages, pareto) - ages
        waiting = lengths.draw(random, np.full(simulated, NOT_STARTED), pareto)
        ends.append(_end(queue, np.maximum(rest, 1.0), waiting))
    return float(np.median(ends))


def _end(queue: Queue, rest: NDArray[np.float64], waiting: NDArray[np.float64]) -> float:
    """The step at which the last request is answered."""
    end = float(rest.max(initial=0.0))
    left_out = queue.waiting - len(waiting)
    if queue.in_chunks:
        starts = range(0, len(waiting), queue.window)
        chunks = [float(waiting[start : start + queue.window].max()) for start in starts]
        return end + sum(chunks) * (1 + left_out / max(len(waiting), 1))
    if not len(waiting):
        return end
    slots = rest.tolist() + [0.0] * (queue.window - len(rest))
    heapq.heapify(slots)
    for length in waiting.tolist():
        answered = slots[0] + length
        heapq.heapreplace(slots, answered)
        end = max(end, answered)
    return end + left_out * float(waiting.mean()) / queue.window


class _Lengths:
    """The distribution of lengths: as counted up to `_edge`, and a fitted tail beyond it.

    `pareto` is the probability that the tail is Pareto's, not exponential.
    """

    def __init__(self, queue: Queue) -> None:
        seen = np.asarray([*queue.finished, *queue.ages], dtype=float)
        ended = np.arange(len(seen)) < len(queue.finished)
        order = np.lexsort((~ended, seen))
        seen, ended = seen[order], ended[order]
        surviving = np.cumprod(1 - ended / np.arange(len(seen), 0, -1))
        self.half_known = bool(surviving[-1] <= 0.5)
        # The first length that the tail's share exceeds, or the last one that is known whole.
        edge = seen[min(np.searchsorted(-surviving, -TAIL_SHARE), np.flatnonzero(ended)[-1])]
        inner = int(np.searchsorted(seen, edge, side="right"))
        self._seen, self._surviving = seen[:inner], surviving[:inner]
        self._edge, self._beyond = max(float(seen[inner - 1]), 1.0), float(surviving[inner - 1])
        self._longest = max(queue.longest, float(np.max(queue.finished, initial=1.0)))
        self._fit(seen[inner:], seen[inner:][ended[inner:]], seen.sum() / ended.sum())

    def _fit(self, tail: NDArray[np.float64], events: NDArray[np.float64], mean: float) -> None:
        """Maximum likelihood with censoring, as if one more length had ended a mean length behind
        the edge: few lengths alone say too little, and many may be there that have just begun."""
        logs, excess = float(np.log(tail / self._edge).sum()), float((tail - self._edge).sum())
        count = len(events)
        self._alpha = (count + 1) / (logs + math.log1p(max(mean, 0.1) / self._edge))
        self._rate = (count + 1) / (excess + max(mean, 0.1))
        density = float(np.log(events).sum())
        pareto = count * math.log(self._alpha) - density - self._alpha * logs
        exponential = count * math.log(self._rate) - self._rate * excess
        odds = EXPONENTIAL_ODDS * math.exp(min(max(exponential - pareto, -50.0), 50.0))
        self.pareto = 1 / (1 + odds)

    def draw(
        self, random: np.random.Generator, ages: NDArray[np.float64], pareto: bool
    ) -> NDArray[np.float64]:
        """A length for each request that has taken `ages` steps."""
        share = self._share_longer(ages, pareto) * random.random(len(ages))
        inner = np.minimum(
            np.searchsorted(-self._surviving, -share, side="left"), len(self._seen) - 1
        )
        within = np.minimum(share / self._beyond, 1.0) if self._beyond else np.ones(len(ages))
        tail = (
            self._edge * within ** (-1 / self._alpha)
            if pareto
            else self._edge - np.log(within) / self._rate
        )
        drawn = np.where(share < self._beyond, tail, self._seen[inner])
        return np.minimum(drawn, self._longest)

    def _share_longer(self, ages: NDArray[np.float64], pareto: bool) -> NDArray[np.float64]:
        """The share of lengths that exceed each age."""
        before = np.searchsorted(self._seen, ages, side="right")
        inner = np.concatenate([[1.0], self._surviving])[before]
        beyond = np.maximum(ages, self._edge)
        tail = (
            (beyond / self._edge) ** -self._alpha
            if pareto
            else np.exp(-self._rate * (beyond - self._edge))
        )
        share = np.where(ages >= self._edge, self._beyond * tail, inner)
        return np.maximum(share, np.finfo(float).tiny)
