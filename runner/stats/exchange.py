"""Compares several answers to each question between two runs: a stratified permutation test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, variance

from runner.stats.means import mean
from runner.stats.resampling import exchanged_drop

Values = Sequence[Sequence[float]]
# With more questions that can differ, the sum of their differences is close enough to normal.
MANY = 300


def exchanged(before: Values, after: Values) -> float:
    """Two-sided p of the mean difference, if each question's answers could be of either run.

    `before` and `after` have a value for each answer to each question, in any number. The answers
    are dealt again at random within each question, so questions may differ as much as they like.
    """
    pairs = [
        (one, other) for one, other in zip(before, after, strict=True) if len({*one, *other}) > 1
    ]
    if not pairs:
        return 1.0
    if len(pairs) > MANY:
        return _normal(pairs)
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    return min(1.0, 2 * min(exchanged_drop(first, second), exchanged_drop(second, first)))


def ranks_exchanged(before: Values, after: Values) -> float:
    """`exchanged` for the ranks of the values: the Mann-Whitney test, within questions.

    A few very large values do not decide it.
    """
    from scipy.stats import rankdata

    ranks = iter(rankdata([value for side in (before, after) for own in side for value in own]))
    first, second = (
        [[float(next(ranks)) for _ in own] for own in side] for side in (before, after)
    )
    return exchanged(first, second)


def _normal(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """The normal approximation, with the exact variance of the permutations."""
    difference = math.fsum(mean(one) - mean(other) for one, other in pairs)
    spread = math.fsum(
        variance((*one, *other)) * (len(one) + len(other)) / (len(one) * len(other))
        for one, other in pairs
    )
    return 2 * NormalDist().cdf(-abs(difference) / math.sqrt(spread))
