"""Number of samples with which a run passes, or fails, in 4 of 5 runs.

Two numbers are computed, because two different runs must be decided: one without a drop has to
pass, and one with twice the tolerated drop has to fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

from runner.stats import ALPHA, POWER, betting, power
from runner.stats.flips import ENOUGH, passing

# No task has more samples.
MANY = 10**9
# The drop that has to be found, in margins.
WORSE = 2.0
# Standard deviations of a binomial count that are considered, and the number of counts.
WIDTH, POINTS = 4, 41

# Probability of a pass without a drop, for a number of samples and a margin.
Passes = Callable[[int, float], float]
# Probability that a drop is found, for a number of samples, the drop and a significance level.
Finds = Callable[[int, float, float], float]


@dataclass(frozen=True)
class Chances:
    """Probabilities that a run passes without a drop, and that a drop is found."""

    passes: Passes
    finds: Finds

    def to_pass(self, n: int, margin: float) -> int | None:
        """Return the number of samples, more than n, with which a run without a drop passes.

        With 80 % power; None if no number is enough.
        """
        return _smallest(lambda size: self.passes(size, margin), n)

    def to_fail(self, n: int, margin: float, alpha: float = ALPHA) -> int | None:
        """Return the number of samples, more than n, with which twice the margin is found.

        With 80 % power; None if no number is enough.
        """
        return _smallest(lambda size: self.finds(size, WORSE * margin, alpha), n)

    def in_unit(self, size: float) -> Chances:
        """Return the chances in a unit that is 1 / `size` of the present one."""
        return Chances(
            lambda n, margin: self.passes(n, margin / size),
            lambda n, drop, alpha: self.finds(n, drop / size, alpha),
        )

    def and_passes(self, other: Chances) -> Chances:
        """Return the chances if both bounds have to hold."""
        return replace(
            self, passes=lambda n, margin: min(self.passes(n, margin), other.passes(n, margin))
        )

    def and_finds(self, other: Chances) -> Chances:
        """Return the chances if both tests have to hold."""
        return replace(
            self,
            finds=lambda n, drop, alpha: min(
                self.finds(n, drop, alpha), other.finds(n, drop, alpha)
            ),
        )


def of_mean(deviation: float, known_error: float = 0.0) -> Chances:
    """Return the chances of a normal test and bound of a mean.

    `deviation` is the standard deviation of one sample's difference; `known_error` is the other
    value's standard error, which more samples of this run do not reduce.
    """

    def finds(n: int, drop: float, alpha: float) -> float:
        error = math.hypot(deviation / math.sqrt(n), known_error)
        return _beyond(drop, error, NormalDist().inv_cdf(1 - alpha))

    return Chances(lambda n, margin: finds(n, margin, ALPHA), finds)


def of_losses(deviation: float, most: float) -> Chances:
    """Return the chances as `of_mean` does, for a drop of samples that lose up to `most`.

    A few large losses raise the deviation more than many small ones.
    """

    def finds(n: int, drop: float, alpha: float) -> float:
        added = math.sqrt(max(drop * (most - drop), 0.0))
        return of_mean(math.hypot(deviation, added)).finds(n, drop, alpha)

    return Chances(of_mean(deviation).passes, finds)


def of_bets(deviation: float, most: float) -> Chances:
    """Return the chances of the betting test and bound of a mean.

    A sample's difference is at most `most`. `betting.questions_needed` samples are required even if
    they do not differ; those beyond it overcome the deviation.
    """

    def finds(n: int, drop: float, alpha: float) -> float:
        left = n - betting.questions_needed(drop, most, alpha)
        if left <= 0:
            return 0.0
        return _beyond(drop, deviation / math.sqrt(left), betting.reach(alpha))

    return Chances(lambda n, margin: finds(n, margin, ALPHA), finds)


def of_flips(share: float, step: float = 1.0) -> Chances:
    """Return the chances of McNemar's test and Tango's bound if a share of the scores flips.

    A flip changes a score by `step`.
    """

    def passes(n: int, margin: float) -> float:
        import numpy as np
        from scipy.stats import binom

        if n < ENOUGH:
            return 0.0
        middle, half = n * share, WIDTH * math.sqrt(n * share) + 1
        first, last = max(0, math.floor(middle - half)), min(n, math.ceil(middle + half))
        changed = np.unique(np.linspace(first, last, POINTS).astype(int))
        weights = binom.pmf(changed, n, share)
        passed = binom.cdf(passing(changed, n, margin / step), changed, 0.5)
        return float(weights @ passed / weights.sum())

    return Chances(
        passes, lambda n, drop, alpha: power.power_of_flips(min(drop / step, 1.0), share, n, alpha)
    )


def of_share(known: float) -> Chances:
    """Return the chances of the exact binomial test and bound against a share."""
    from scipy.stats import binom

    def passes(n: int, margin: float) -> float:
        # The bound of so many right answers is less than the margin below `known`.
        enough = binom.isf(ALPHA, n, max(known - margin, 0.0)) + 1
        return float(binom.sf(enough - 1, n, known))

    def finds(n: int, drop: float, alpha: float) -> float:
        few = binom.ppf(alpha, n, known)
        few -= binom.cdf(few, n, known) > alpha
        return float(binom.cdf(few, n, max(known - drop, 0.0)))

    return Chances(passes, finds)


def _beyond(drop: float, error: float, reach: float) -> float:
    """Probability of an estimate more than `reach` standard errors from a drop."""
    return NormalDist().cdf(drop / error - reach) if error > 0 else 1.0


def _smallest(chance: Callable[[int], float], above: int) -> int | None:
    """The smallest number above `above` with 80 % power, to one part in a thousand."""
    few, step = above, 1
    while chance(few + step) < POWER:
        few, step = few + step, 2 * step
        if few > MANY:
            return None
    many = few + step
    while many - few > max(many // 1000, 1):
        middle = (few + many) // 2
        if chance(middle) < POWER:
            few = middle
        else:
            many = middle
    return many
