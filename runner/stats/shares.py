"""Proportions of n samples, each 0 or 1: intervals and the exact test against a known share."""

from __future__ import annotations

import math
from statistics import NormalDist

from runner.stats import ALPHA


def wilson(share: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided score interval (Wilson 1927), which also works at 0 and 1, where stderr is 0."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    spread = share * (1 - share) / n + z * z / (4 * n * n)
    half = z * math.sqrt(max(spread, 0.0)) / (1 + z * z / n)
    return (max(center - half, 0.0), min(center + half, 1.0))


def lower_bound(right: float, n: int, alpha: float = ALPHA) -> float:
    """One-sided lower confidence bound of the true share (Clopper-Pearson 1934).

    It is the share for which the probability of `right` or more of `n` is exactly `alpha`.
    """
    from scipy.stats import beta

    return float(beta.ppf(alpha, right, n - right + 1)) if right > 0 else 0.0


def upper_bound(right: float, n: int, alpha: float = ALPHA) -> float:
    """One-sided upper confidence bound of the true share; see `lower_bound`."""
    return 1.0 - lower_bound(n - right, n, alpha)


def at_most(right: int, n: int, share: float) -> float:
    """Probability of `right` or fewer of `n` for a true share of `share`: the exact test."""
    from scipy.stats import binom

    return float(binom.cdf(right, n, min(max(share, 0.0), 1.0)))
