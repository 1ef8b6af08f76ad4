"""The mean of n numbers: standard error, with or without clusters, and Student's t.

Source of the standard errors: Miller, "Adding Error Bars to Evals", arXiv 2411.00640.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from runner.stats import ALPHA


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean; 0 for fewer than two values.

    It is sqrt(sum of squares about the mean / (n (n - 1))).
    """
    n = len(values)
    if n < 2:
        return 0.0
    center = mean(values)
    return math.sqrt(math.fsum((value - center) ** 2 for value in values) / (n * (n - 1)))


def clustered_error(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Standard error of the mean of clustered values: Miller's formula.

    SE² + 1/n² Σ_c Σ_{i≠j in c} (x_i - x̄)(x_j - x̄): the cross terms of each cluster are the square
    of its sum minus the sum of its squares. Negative correlation within clusters may make it 0.
    """
    n = len(values)
    center = mean(values)
    sums: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums.setdefault(cluster, []).append(value - center)
    cross = math.fsum(
        math.fsum(own) ** 2 - math.fsum(each * each for each in own) for own in sums.values()
    )
    return math.sqrt(max(standard_error(values) ** 2 + cross / n**2, 0.0))


def t_test(values: Sequence[float]) -> float:
    """Two-sided p of a mean of 0, by Student's t. The values must not all be equal."""
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(values, 0).pvalue)


def t_interval(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Standard error and two-sided 95 % interval of the mean; no interval if the error is 0."""
    stderr = standard_error(values)
    if stderr == 0:
        return 0.0, None
    from scipy.stats import t

    center, half = mean(values), float(t.ppf(0.975, len(values) - 1)) * stderr
    return stderr, (center - half, center + half)


def above_zero(center: float, stderr: float, freedom: float) -> float:
    """One-sided p of a true mean of 0 or less, by Student's t (normal for `freedom=math.inf`)."""
    from scipy.stats import t

    return float(t.sf(center / stderr, freedom))


def upper(center: float, stderr: float, freedom: float, alpha: float = ALPHA) -> float:
    """One-sided upper bound of the true mean, by Student's t."""
    from scipy.stats import t

    return center + float(t.isf(alpha, freedom)) * stderr
