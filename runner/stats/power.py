"""Power analysis: detectable drops. `needed` has the numbers of samples that decide."""

from __future__ import annotations

import math
from statistics import NormalDist

from runner.stats import ALPHA, POWER


def reach(alpha: float = ALPHA, power: float = POWER) -> float:
    """Smallest detectable difference of a one-sided test, in standard errors.

    It is z of 1 - alpha plus z of the power: Miller's sample-size formula (arXiv 2411.00640, power
    analysis), solved for the difference.
    """
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)


def power_of_flips(drop: float, share: float, n: int, alpha: float = ALPHA) -> float:
    """The probability that the one-sided exact McNemar test finds a drop in n samples.

    A share `share` of the samples flips, or as many as the drop needs. Exact: sums over every
    number of flips, weighted by its probability, the probability that enough of them are for the
    worse.
    """
    import numpy as np
    from scipy.stats import binom

    changing = max(share, drop)
    if changing <= 0:
        return 0.0
    # Numbers of flips beyond six standard deviations have a probability of about one in a
    # billion.
    mean, spread = n * changing, 6 * math.sqrt(n * changing) + 20
    changes = np.arange(max(0, int(mean - spread)), min(n, int(mean + spread)) + 1)
    needed = binom.isf(alpha, changes, 0.5) + 1  # the smallest number with a p of at most alpha
    found = binom.sf(needed - 1, changes, (changing + drop) / (2 * changing))
    return float(binom.pmf(changes, n, changing) @ found)


def detectable_flips(flips: int, n: int, alpha: float = ALPHA) -> float:
    """The drop that the one-sided exact McNemar test finds with 80 % power; 1 if it finds none.

    `flips` of n samples flipped, and the same share is assumed for the next run.
    """
    from scipy.optimize import brentq

    share = flips / n
    if power_of_flips(1.0, share, n, alpha) < POWER:
        return 1.0
    low = POWER / n / 100  # no test detects less than a sample
    return float(brentq(lambda d: power_of_flips(d, share, n, alpha) - POWER, low, 1.0, xtol=1e-9))
