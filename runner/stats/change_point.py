"""Finds the runs at which a series of values changes its level, and slow trends.

Values of the same questions under the same stack repeat exactly, or nearly so: they vary far less
than the binomial error of one value. So the variation between runs is the only yardstick, and the
tests are permutation tests: without a change, every order of the values is equally likely. That
holds whatever the distribution, with ties and without any variation. It does not hold for values
that depend on the previous ones, such as a slow slide.

Sources: K. J. Worsley, Biometrika 73 (1986), for the largest standardised difference over all
positions; J. Antoch and M. Hušková, Statistics & Probability Letters 53 (2001), for its
permutations; J. Besag and P. Clifford, Biometrika 78 (1991), for stopping them early; A. F. M.
Smith, Biometrika 62 (1975), for where the change lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from runner.stats import means

# NDArray[np.float64]; numpy is imported when it is needed.
Array = Any

# Probability of reporting a change in a series without one.
LEVEL = 0.01
PERMUTATIONS = 9_999
# A permutation test ends when so many orders were as extreme as the observed one.
ENOUGH = 50
# Or so many, if that makes a p value beyond any doubt.
CLEARLY, CLEAR = 10, 0.1
# Orders that are made at once.
SMALLEST_CHUNK, LARGEST_CHUNK = 25, 500
# In longer series, episodes are not searched: there are too many.
LONGEST_EPISODES = 120
# Numbers that are equal up to rounding are equal.
DIGITS = 9
# Spreads from the median; values beyond them count as that far.
FARTHEST = 4.0
# Of the runs at one of which the new level begins.
CONFIDENCE = 0.95
# Of the control limits: one run in a hundred is outside.
OUTSIDE = 0.01


@dataclass(frozen=True)
class Change:
    """A change of level: `first` is the position of the first value after it.

    `earliest` and `latest` are the ends of the 95 % range of that position. `before` and `after`
    are the median values of both levels, `worse` says whether the change is a drop, and `p` is the
    one-sided p value of a change at any position. If `episode` is set, the change is one end of an
    episode, and `p` is that of the whole episode.
    """

    first: int
    earliest: int
    latest: int
    before: float
    after: float
    worse: bool
    p: float
    episode: bool = False


@dataclass(frozen=True)
class Trend:
    """A slide in one direction: Theil and Sen's slope per run, and Mann and Kendall's p value."""

    slope: float
    p: float


def changes(values: Sequence[float], sign: int) -> tuple[Change, ...]:
    """Return all changes of level, in order; `sign` is 1 if a smaller value is worse, else -1.

    A segment is split at its most likely drop, or else at its most likely rise, or else at both
    ends of an episode, and the parts are searched again. Each of these three tests has the
    probability LEVEL of finding something in a series without a change.
    """
    known = [round(value, DIGITS) for value in values]
    found = _splits(known, sign)
    starts = [0, *(each.place for each in found)]
    ends = [*starts[2:], len(known)]
    return tuple(
        _change(known, start, split, end, sign)
        for start, split, end in zip(starts, found, ends, strict=False)
    )


@dataclass(frozen=True)
class _Split:
    """A change at `place`, found by a test of a step or, if `episode` is set, of an episode."""

    place: int
    p: float
    episode: bool


def _splits(values: Sequence[float], sign: int) -> list[_Split]:
    """All changes of the values, in order."""
    found: list[_Split] = []
    todo = [(0, len(values))]
    while todo:
        start, end = todo.pop()
        places, p = _likeliest(values[start:end], sign)
        found += [_Split(start + place, p, len(places) > 1) for place in places]
        ends = [start, *(start + place for place in places), end]
        todo += list(pairwise(ends)) if places else []
    return sorted(found, key=lambda each: each.place)


def _likeliest(values: Sequence[float], sign: int) -> tuple[tuple[int, ...], float]:
    """The most likely positions of a change and their p value; none if it is not significant."""
    if len(values) < FEWEST or min(values) == max(values):
        return (), 1.0
    for direction in (sign, -sign):
        place, p = step(values, direction)
        if p <= LEVEL:
            return (place,), p
    if len(values) > LONGEST_EPISODES:
        return (), 1.0
    ends, p = _most_extreme(values, sign, _episodes)
    return (_bounds(len(values), ends), p) if p <= LEVEL else ((), p)


def _change(values: Sequence[float], start: int, split: _Split, end: int, sign: int) -> Change:
    """The change between the levels that begin at `start` and at the split, and end at `end`."""
    before, after = median(values[start : split.place]), median(values[split.place : end])
    earliest, latest = _range(values[start:end], split.place - start)
    return Change(
        first=split.place,
        earliest=start + earliest,
        latest=start + latest,
        before=before,
        after=after,
        worse=sign * (after - before) < 0,
        p=split.p,
        episode=split.episode,
    )


def step(values: Sequence[float], sign: int) -> tuple[int, float]:
    """Return the most likely position of a drop, and the p value of a drop at any position.

    The statistic is the largest standardised difference of means before and after a position.
    Without two different values, p is 1.
    """
    if len(values) < 2 or min(values) == max(values):
        return 1, 1.0
    place, p = _most_extreme(values, sign, _drops)
    return place + 1, p


def _most_extreme(
    values: Sequence[float], sign: int, statistics: Callable[[Array], Array]
) -> tuple[int, float]:
    """The place of the largest statistic, and its p value: the smaller one of two kinds of scores,
    doubled if they differ."""
    kinds = _scores(values, sign)
    found = [_permuted(scores, statistics) for scores in kinds]
    place, p = min(found, key=lambda each: each[1])
    return place, min(len(kinds) * p, 1.0)


def _permuted(scores: Array, statistics: Callable[[Array], Array]) -> tuple[int, float]:
    import numpy as np

    observed = statistics(scores[None, :])[0]
    place = int(observed.argmax())
    # Permutations sum the same scores in another order.
    limit = observed[place] - 1e-9
    random = np.random.default_rng(0)
    made = extreme = 0
    while made < PERMUTATIONS and extreme < ENOUGH:
        if extreme >= CLEARLY and extreme > CLEAR * made:
            break
        count = min(max(made, SMALLEST_CHUNK), LARGEST_CHUNK, PERMUTATIONS - made)
        orders = random.permuted(np.tile(scores, (count, 1)), axis=1)
        extreme += int((statistics(orders).max(axis=1) >= limit).sum())
        made += count
    return place, (extreme + 1) / (made + 1)


def _scores(values: Sequence[float], sign: int) -> list[Array]:
    """The values in units of their spread, and their ranks; centred, and once if they agree.

    Spreads tell a large drop by few runs; ranks can't be dominated by one broken run.
    """
    import numpy as np
    from scipy.stats import rankdata

    own = sign * (np.array(values) - median(values))
    distances = np.abs(own)
    unit = float(np.median(distances)) * 1.4826 or float(np.median(distances[distances > 0]))
    kinds = [np.clip(own / unit, -FARTHEST, FARTHEST), rankdata(own)]
    kinds = [scores - scores.mean() for scores in kinds]
    spreads, ranks = (scores / np.abs(scores).max() for scores in kinds)
    return kinds[:1] if np.allclose(spreads, ranks) else kinds


def _drops(scores: Array) -> Array:
    """For each row of centred scores, the standardised drop after each position but the last."""
    import numpy as np

    n = scores.shape[1]
    before = np.arange(1, n)
    drops: Array = scores.cumsum(axis=1)[:, :-1] / np.sqrt(before * (n - before) / n)
    return drops


def _episodes(scores: Array) -> Array:
    """For each row of centred scores, the standardised difference, in either direction, of each
    part that has neither end of the series from the rest."""
    import numpy as np

    n = scores.shape[1]
    sums = scores.cumsum(axis=1)
    starts, ends = np.triu_indices(n - 1, 1)
    within = ends - starts
    found: Array = sums[:, ends]
    found -= sums[:, starts]
    found /= np.sqrt(within * (n - within) / n)
    return np.abs(found, out=found)


def _bounds(n: int, place: int) -> tuple[int, int]:
    """The first position of an episode, and the first one after it."""
    import numpy as np

    starts, ends = np.triu_indices(n - 1, 1)
    return int(starts[place]) + 1, int(ends[place]) + 1


def _range(values: Sequence[float], split: int) -> tuple[int, int]:
    """The first and the last position of 95 % of the posterior, which is that of normal errors of
    unknown size.

    Values beyond both levels by more than the step count as a step beyond, so that one broken run
    can't hide the change.
    """
    import numpy as np

    own = np.array(values)
    levels = median(values[:split]), median(values[split:])
    size = abs(levels[0] - levels[1])
    own = own.clip(min(levels) - size, max(levels) + size)
    n = len(own)
    before = np.arange(1, n)
    sums, squares = own.cumsum()[:-1], (own**2).sum()
    rest = squares - sums**2 / before - (own.sum() - sums) ** 2 / (n - before)
    # Without any variation within the levels, all of the posterior is at one position.
    rest = np.maximum(rest, (10.0**-DIGITS * max(size, 10.0**-DIGITS)) ** 2)
    logarithm = -(n - 2) / 2 * np.log(rest) - 0.5 * np.log(before * (n - before))
    weights = np.exp(logarithm - logarithm.max())
    order = np.argsort(-weights)
    count = int(np.searchsorted(weights[order].cumsum(), CONFIDENCE * weights.sum())) + 1
    likely = [int(each) + 1 for each in order[:count]]
    return min(*likely, split), max(*likely, split)


def trend(values: Sequence[float], sign: int) -> Trend | None:
    """Return the slide towards worse values; None with too few or equal values."""
    if len(values) < FEWEST or min(values) == max(values):
        return None
    from scipy.stats import kendalltau, theilslopes

    places = list(range(len(values)))
    known = [sign * round(value, DIGITS) for value in values]
    p = float(kendalltau(places, known, alternative="less").pvalue)
    return Trend(sign * float(theilslopes(known, places)[0]), p)


def gradual(values: Sequence[float], found: Sequence[Change]) -> bool:
    """Return whether a straight line describes the values better than the levels (BIC).

    Values far from the median are clipped: else one broken run makes both descriptions as bad.
    """
    import numpy as np

    n, places = len(values), np.arange(len(values))
    scores = _scores(values, 1)[0]
    slope, start = np.polyfit(places, scores, 1)
    line = float(((scores - start - slope * places) ** 2).sum())
    ends = [0, *(each.first for each in found), n]
    levels = [scores[a:b] for a, b in pairwise(ends)]
    steps = float(sum(((level - level.mean()) ** 2).sum() for level in levels))
    smallest = 10.0 ** (-2 * DIGITS)
    free = 2 * len(found) + 1
    return n * math.log((line + smallest) / (steps + smallest)) < (free - 2) * math.log(n)


def control_limits(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 99 % prediction interval of one further value (Student's t).

    None for fewer than 5 values. Equal values have an interval without width.
    """
    n = len(values)
    if n < 5:
        return None
    from scipy.stats import t

    middle = means.mean(values)
    variance = math.fsum((value - middle) ** 2 for value in values) / (n - 1)
    reach = float(t.ppf(1 - OUTSIDE / 2, n - 1)) * math.sqrt(variance * (1 + 1 / n))
    return middle - reach, middle + reach


def best_p(n: int, bad: int) -> float:
    """Return the smallest possible p value of `n` runs of which the last `bad` are the worst."""
    return 1 / math.comb(n, bad)


def further(n: int, bad: int) -> int:
    """Return how many more bad runs make a change significant, if all those before were better."""
    return next(more for more in range(100) if best_p(n + more, bad + more) <= LEVEL / 2)


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


# With fewer runs, no order is rare enough.
FEWEST = next(n for n in range(2, 100) if best_p(n, n // 2) <= LEVEL)
