"""Tests and bounds of the mean of bounded values, at any number of values and any distribution.

A bet against a hypothetical mean multiplies its capital by a factor for each value, whose
expectation is at most 1 if the hypothesis is true. So the capital exceeds 1/alpha with a
probability of at most alpha (Markov's inequality). Source: Waudby-Smith & Ramdas, "Estimating means
of bounded random variables by betting", JRSS B 86 (2024) 1, arXiv 2010.09686.

Here the capital is split over several stakes, so the result does not depend on the order of the
values, and it holds at any number of them: one may look after each and stop. Splitting costs a
factor of at most the number of stakes; with fewer stakes the best one may be missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.stats import ALPHA

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# For a bound at a known number of values: even shares for stakes from 2 % to 99 % of the largest.
STAKES = 8
SMALLEST, LARGEST = 0.02, 0.99
# For stopping early: stakes, and relative shares of the capital. Larger stakes win sooner if few
# answers change, so fewer small ones are needed (benchmarks/stopping.py: a fifth fewer).
EARLY = ((0.08, 1.0), (0.25, 1.5), (0.5, 2.0), (0.75, 2.0), (0.97, 2.0))

Stakes = Sequence[tuple[float, float]]


def questions_needed(margin: float, span: float, alpha: float = ALPHA) -> int:
    """Number of values of 0 from which `upper` is below the margin, for values within ± `span`.

    No data set decides with fewer, because a rare loss may be missing from it.
    """
    most = math.log1p(LARGEST * margin / (span - margin)) if margin < span else math.inf
    return math.ceil(math.log(STAKES / alpha) / most) if most < math.inf else 1


def reach(alpha: float = ALPHA) -> float:
    """Distance of `upper` from a mean of many values, in standard errors.

    With the best stake, the logarithm of the capital is half the square of this distance.
    """
    return math.sqrt(2 * math.log(STAKES / alpha))


def p_at_most(
    values: Sequence[float], mean: float, low: float, stakes: Stakes | None = None
) -> float:
    """One-sided p of a true mean of `mean` or less, for values of at least `low`."""
    if mean <= low:
        return 1.0 if all(value <= mean for value in values) else 0.0
    return min(1.0, math.exp(-_log_capital(values, mean, mean - low, stakes)))


def lower(
    values: Sequence[float],
    low: float,
    high: float,
    alpha: float = ALPHA,
    stakes: Stakes | None = None,
) -> float:
    """One-sided lower confidence bound of the true mean."""
    from scipy.optimize import brentq

    goal = -math.log(alpha)
    best = min(max(math.fsum(values) / len(values), low), high)

    def excess(mean: float) -> float:
        return _log_capital(values, mean, mean - low, stakes) - goal

    edge = low + (high - low) * 1e-9
    if best <= edge or excess(edge) <= 0:
        return low
    return float(brentq(excess, edge, best, xtol=(high - low) * 1e-7))


def upper(
    values: Sequence[float],
    low: float,
    high: float,
    alpha: float = ALPHA,
    stakes: Stakes | None = None,
) -> float:
    """One-sided upper confidence bound of the true mean."""
    return -lower([-value for value in values], -high, -low, alpha, stakes)


def _log_capital(
    values: Sequence[float], mean: float, most: float, stakes: Stakes | None = None
) -> float:
    """Logarithm of the capital won against a true mean of `mean` or less; `most` can be lost."""
    import numpy as np
    from scipy.special import logsumexp

    gains = (np.asarray(values, dtype=float) - mean) / most
    if stakes is None:
        sizes: NDArray[np.float64] = np.geomspace(SMALLEST, LARGEST, STAKES)
        shares = np.full(STAKES, 1 / STAKES)
    else:
        sizes, shares = np.transpose(stakes)
        shares = shares / shares.sum()
    logs = np.log1p(np.outer(sizes, gains)).sum(axis=1)
    return float(logsumexp(logs + np.log(shares)))
