"""The drop from a baseline that is itself an estimate: both values have confidence bounds.

The bounds of the difference combine those of the two values: Newcombe, "Interval estimation for the
difference between independent proportions", Statistics in Medicine 17 (1998) 873, method 10, for
any bounds (Zou & Donner, Statistics in Medicine 27 (2008) 1693).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from runner.stats import ALPHA, betting, means, shares

# A bound at a significance level.
Bound = Callable[[float], float]
# Smallest p that is computed.
SMALLEST = 1e-6


@dataclass(frozen=True)
class Estimate:
    """A value with its one-sided confidence bounds."""

    value: float
    lower: Bound
    upper: Bound


def share(right: float, n: int) -> Estimate:
    """The share of `right` of n answers; `right` need not be whole: published ones are rounded."""
    return Estimate(
        right / n,
        lambda alpha: shares.lower_bound(right, n, alpha),
        lambda alpha: shares.upper_bound(right, n, alpha),
    )


def normal(value: float, stderr: float) -> Estimate:
    """A value with a published standard error."""

    def beyond(alpha: float) -> float:
        return NormalDist().inv_cdf(1 - alpha) * stderr

    return Estimate(value, lambda alpha: value - beyond(alpha), lambda alpha: value + beyond(alpha))


def student(values: Sequence[float]) -> Estimate:
    """The mean of some values, by Student's t."""
    center, stderr = means.mean(values), means.standard_error(values)
    freedom = len(values) - 1
    return Estimate(
        center,
        lambda alpha: 2 * center - means.upper(center, stderr, freedom, alpha),
        lambda alpha: means.upper(center, stderr, freedom, alpha),
    )


def bounded(values: Sequence[float], low: float, high: float) -> Estimate:
    """The mean of values between `low` and `high`, of any distribution."""
    return Estimate(
        means.mean(values),
        lambda alpha: betting.lower(values, low, high, alpha),
        lambda alpha: betting.upper(values, low, high, alpha),
    )


def drop(baseline: Estimate, value: Estimate) -> tuple[float, float]:
    """One-sided p of no drop from the baseline, and the drop's one-sided upper bound."""
    from scipy.optimize import brentq

    seen = baseline.value - value.value

    def least(alpha: float) -> float:
        return seen - math.hypot(
            baseline.value - baseline.lower(alpha), value.upper(alpha) - value.value
        )

    most = seen + math.hypot(
        baseline.upper(ALPHA) - baseline.value, value.value - value.lower(ALPHA)
    )
    if least(0.5) <= 0:
        return 1.0, most
    if least(SMALLEST) > 0:
        return SMALLEST, most
    found = brentq(lambda log: least(math.exp(log)), math.log(SMALLEST), math.log(0.5), xtol=1e-4)
    return math.exp(float(found)), most


def flipped(estimate: Estimate) -> Estimate:
    """The estimate with the opposite sign, for a metric of which higher values are worse."""
    return Estimate(
        -estimate.value,
        lambda alpha: -estimate.upper(alpha),
        lambda alpha: -estimate.lower(alpha),
    )
