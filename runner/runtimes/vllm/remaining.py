"""Estimates how many engine steps, and seconds, the remaining requests will take.

A length is the number of engine steps from a request's start to its answer. Finished requests alone
would bias the estimate, because short answers finish first. So requests in flight count as censored
observations with the steps that they have taken so far (Kaplan and Meier 1958). Few lengths are
known in the tail, so it is modelled as exponential or Pareto, weighted by the likelihood of the
observed lengths. The rest of the run is then simulated, request by request.
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

# Below these numbers of finished requests or engine steps there is no estimate.
LEAST_FINISHED, LEAST_STEPS = 8, 20
# The longest 2 % of the lengths are the tail.
TAIL_SHARE = 0.02
# Prior odds of an exponential tail against a Pareto tail.
EXPONENTIAL_ODDS = 4
# Only the last so many windows of waiting requests are simulated; those before them count with the
# average length.
SIMULATED_WINDOWS = 4
# Total number of lengths drawn, and limits on the number of simulations: keeps an estimate to a few
# milliseconds.
DRAWN, LEAST_ROUNDS, MOST_ROUNDS = 3000, 9, 49
# The age of a waiting request; below any length, since a length may be 0.
NOT_STARTED = -1.0
# The engine's speed is measured over this many estimates.
RECENT = 10


@dataclass(frozen=True)
class Queue:
    """Requests of one kind: lengths of the finished ones, ages of those in flight, in engine steps.

    `waiting` is the number of requests that follow, at most `window` at once. With `in_chunks`, the
    next `window` requests start only when all before them are answered. `longest` is the maximum
    length.
    """

    finished: Sequence[int]
    ages: Sequence[int]
    waiting: int
    window: int
    longest: float
    in_chunks: bool = False


class Clock:
    """Converts remaining engine steps to seconds at the engine's recent speed."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=RECENT)

    def seconds_left(self, queue: Queue, steps: int) -> float | None:
        """Seconds until all requests are answered; None if too little is known.

        Call it about once a second. `steps` is the number of steps that the engine has made.
        """
        self._seen.append((time.monotonic(), steps))
        (then, before), (now, _) = self._seen[0], self._seen[-1]
        left = steps_left(queue) if steps >= LEAST_STEPS else None
        if steps == before or left is None:
            return None
        return left * (now - then) / (steps - before)


def steps_left(queue: Queue) -> float | None:
    """Median of the simulated engine steps until all requests are answered.

    The random seed is fixed, so the estimate changes only when new data arrives. None if fewer than
    LEAST_FINISHED requests have finished, or if the median length has not been observed yet.
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
    """Distribution of lengths: empirical up to `_edge`, a fitted tail beyond it.

    `pareto` is the probability that the tail is a Pareto rather than an exponential distribution.
    """

    def __init__(self, queue: Queue) -> None:
        seen = np.asarray([*queue.finished, *queue.ages], dtype=float)
        ended = np.arange(len(seen)) < len(queue.finished)
        order = np.lexsort((~ended, seen))
        seen, ended = seen[order], ended[order]
        surviving = np.cumprod(1 - ended / np.arange(len(seen), 0, -1))
        self.half_known = bool(surviving[-1] <= 0.5)
        # The edge is the length that only TAIL_SHARE of the requests exceed, or the last
        # finished one if censoring hides that point.
        edge = seen[min(np.searchsorted(-surviving, -TAIL_SHARE), np.flatnonzero(ended)[-1])]
        inner = int(np.searchsorted(seen, edge, side="right"))
        self._seen, self._surviving = seen[:inner], surviving[:inner]
        self._edge, self._beyond = max(float(seen[inner - 1]), 1.0), float(surviving[inner - 1])
        self._longest = max(queue.longest, float(np.max(queue.finished, initial=1.0)))
        self._fit(seen[inner:], seen[inner:][ended[inner:]], seen.sum() / ended.sum())

    def _fit(self, tail: NDArray[np.float64], events: NDArray[np.float64], mean: float) -> None:
        """Fit both tails by maximum likelihood with censoring, and weigh them against each other.

        One pseudo-observation, ending a mean length beyond the edge, regularises the fit: there are
        few lengths in the tail, and many requests may have only just started.
        """
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
        """A random length for each request, given the `ages` steps that it has already taken."""
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
        """Share of lengths that exceed each age."""
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
