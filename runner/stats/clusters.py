"""Drops of clustered samples: the test and bound of whole clusters.

Questions of one subject, or about one passage, are often lost together, and clusters differ in
size.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.language import gettext, translated
from runner.look import ONLY, Look
from runner.stats import ALPHA, means, needed
from runner.stats.drops import Drop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Added to the name of a test.
CLUSTERED = " and clustered t"
# The sample skewness of few unequal clusters is too small: in simulations of one cluster in ten
# that is lost (tests/unit/test_clusters.py), this factor is needed.
SKEWED = 1.5


def in_clusters(
    plain: Drop,
    differences: Sequence[float],
    clusters: Sequence[Hashable],
    tested: bool,
    look: Look = ONLY,
) -> Drop:
    """`plain`, adjusted for clustered samples: its bound is at least the clustered one.

    With `tested`, the samples of a cluster are not independent, so the test must hold for clusters
    too: Student's t with clusters - 1 degrees of freedom and the error scaled by sqrt(clusters /
    (clusters - 1)), as few clusters need (Cameron & Miller, Journal of Human Resources 50 (2015)
    317). A single cluster gives no bound.
    """
    count = len(set(clusters))
    if count < 2:
        never = replace(plain.chances, passes=lambda n, margin: 0.0)
        if tested:
            never = replace(never, finds=lambda n, drop, alpha: 0.0)
        p = 1.0 if tested else plain.p
        return replace(plain, upper=math.inf, p=p, chances=never)
    stderr = means.clustered_error(differences, clusters) * math.sqrt(count / (count - 1))
    residuals = _residuals(plain.drop, differences, clusters)
    if stderr == 0 or not residuals.any():
        return plain
    spread, bound = _upper(plain.drop, residuals, plain.n, ALPHA * look.share)
    chances = needed.of_mean(max(spread, stderr) * math.sqrt(plain.n))
    bounded = replace(
        plain,
        upper=max(plain.upper, bound),
        spread=max(plain.spread, spread),
        chances=plain.chances.and_passes(chances),
    )
    if not tested:
        return bounded
    return replace(
        bounded,
        test=plain.test + CLUSTERED,
        p=max(plain.p, min(1.0, means.above_zero(plain.drop, stderr, count - 1) / look.share)),
        stderr=max(plain.stderr, stderr),
        chances=bounded.chances.and_finds(chances),
    )


def test_name(test: str) -> str:
    """Return a test's name in the language of reports."""
    plain = test.removesuffix(CLUSTERED)
    if plain == test:
        return translated(test)
    return gettext("{test} and clustered t", test=translated(plain))


def _upper(
    center: float, residuals: NDArray[np.float64], n: int, alpha: float
) -> tuple[float, float]:
    """Standard error and one-sided upper bound of the mean, with clusters as the samples.

    The error is the jackknife's, CR3, which holds for clusters of unequal size (Bell & McCaffrey,
    Survey Methodology 28 (2002) 169). If some clusters lose much, their sums are skewed, and a run
    that has few of them has both a small drop and a small error. Hall's transformation of Student's
    t corrects that ("On the removal of skewness by transformation", JRSS B 54 (1992) 221). Negative
    skewness is not corrected: the bound is never below Student's.
    """
    import numpy as np
    from scipy.stats import t

    stderr = float(np.sqrt(np.sum(residuals**2))) / n
    quantile = float(t.isf(alpha, len(residuals) - 1))
    skew = SKEWED * float(np.sum(residuals**3) / np.sum(residuals**2) ** 1.5)
    if skew <= 1e-6:
        return stderr, center + quantile * stderr
    reach = 3 / skew * (1 - float(np.cbrt(1 - skew * (quantile + skew / 6))))
    return stderr, center + max(reach, quantile) * stderr


def _residuals(
    center: float, differences: Sequence[float], clusters: Sequence[Hashable]
) -> NDArray[np.float64]:
    """Each cluster's sum of deviations from the mean, divided by one minus its share of samples."""
    import numpy as np

    sums: dict[Hashable, list[float]] = {}
    for value, cluster in zip(differences, clusters, strict=True):
        sums.setdefault(cluster, []).append(value - center)
    return np.array([math.fsum(own) / (1 - len(own) / len(differences)) for own in sums.values()])
