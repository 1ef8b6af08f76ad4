"""Flipped answers: the same samples scored 0 or 1 twice.

`worse` is the number that changed from right to wrong and `better` the number that changed from
wrong to right.

Sources: McNemar 1947 for the exact test; Tango, "Equivalence test and confidence interval for the
difference in proportions for the paired-sample design", Statistics in Medicine 17 (1998) 891, for
the score interval; Agresti & Min, "Simple improved confidence intervals for comparing matched
proportions", Statistics in Medicine 24 (2005) 729.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from runner.stats import ALPHA

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# With fewer samples, `upper_drop` is too low at large margins: a single sample has 0.7.
ENOUGH = 20


def mcnemar(worse: int, better: int) -> float:
    """Two-sided p of the exact McNemar test.

    Without an effect, a flip is equally likely in either direction.
    """
    from scipy.stats import binomtest

    return float(binomtest(worse, worse + better).pvalue) if worse + better else 1.0


def mcnemar_drop(worse: int, better: int) -> float:
    """One-sided p of the exact McNemar test: the probability of `worse` or more of all flips."""
    from scipy.stats import binom

    return float(binom.sf(worse - 1, worse + better, 0.5)) if worse + better else 1.0


def drop_stderr(worse: int, better: int, n: int) -> float:
    """Standard error of (worse - better) / n."""
    return math.sqrt(max(worse + better - (worse - better) ** 2 / n, 0.0)) / n


def matched_proportions(worse: int, better: int, n: int) -> tuple[float, tuple[float, float]]:
    """Standard error and two-sided 95 % interval of (better - worse) / n: Agresti & Min's "Wald+2".

    Half a sample is added to each of the four cells, so the interval has some width even without
    flips, unlike Wald's.
    """
    center = (better - worse) / (n + 2)
    stderr = math.sqrt((worse + better + 1) - (better - worse) ** 2 / (n + 2)) / (n + 2)
    half = NormalDist().inv_cdf(0.975) * stderr
    return stderr, (max(center - half, -1.0), min(center + half, 1.0))


def score(worse: int, better: int, n: int, drop: float, correction: float = 0.0) -> float:
    """Tango's score statistic for a true drop of `drop`, standard normal if that is the drop.

    The probability of a flip is its maximum likelihood estimate under that drop. `correction` is
    added to the difference of the counts.
    """
    quadratic = 2 * n
    linear = -worse - better + (2 * n - worse + better) * drop
    constant = -better * drop * (1 - drop)
    root = math.sqrt(max(linear * linear - 4 * quadratic * constant, 0.0))
    better_share = (root - linear) / (2 * quadratic)
    variance = n * (2 * better_share + drop * (1 - drop))
    distance = worse - better + correction - n * drop
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def upper_drop(worse: int, better: int, n: int, alpha: float = ALPHA) -> float:
    """One-sided upper bound of the drop: Tango's interval with a continuity correction.

    The correction is half a sample. Without it the bound is too low if there are few flips: no
    flips in n samples would give 2.7 / n, but 6.7 % of all runs with that drop show none. Agresti &
    Min's bound is lower still (1.6 / n). With the correction, the true drop is above the bound in
    at most `alpha` of all runs, for `ENOUGH` to 2,000 samples, drops of up to 0.2 and up to 20 % of
    the answers that turn right (tests/unit/test_statistics.py counts every outcome).
    """
    from scipy.optimize import brentq

    z = NormalDist().inv_cdf(1 - alpha)
    low, high = (worse - better) / n, 1.0

    def excess(drop: float) -> float:
        return score(worse, better, n, drop, correction=0.5) + z

    if excess(high - 1e-12) >= 0:
        return 1.0
    return float(brentq(excess, low, high - 1e-12, xtol=1e-12))


def passing(
    changed: NDArray[np.int64], n: int, margin: float, alpha: float = ALPHA
) -> NDArray[np.int64]:
    """Largest number of answers that turned wrong with which `upper_drop` is below the margin.

    One for each number of flips in `changed`; -1 if the bound is not below it with any number. In
    `score`, which grows with that number, `upper_drop` is the drop at -z.
    """
    import numpy as np

    z = NormalDist().inv_cdf(1 - alpha)
    few, many = np.full(len(changed), -1), changed + 1
    while np.any(many - few > 1):
        worse = (few + many) // 2
        better = changed - worse
        linear = -changed + (2 * n - worse + better) * margin
        root = np.sqrt(np.maximum(linear**2 + 8 * n * better * margin * (1 - margin), 0.0))
        variance = n * ((root - linear) / (2 * n) + margin * (1 - margin))
        passes = worse - better + 0.5 - n * margin < -z * np.sqrt(variance)
        open_ = many - few > 1
        few, many = np.where(open_ & passes, worse, few), np.where(open_ & ~passes, worse, many)
    return few
