"""The error rate of a test against a reference that was chosen as the best of several runs."""

from __future__ import annotations

import math
from statistics import NormalDist

from runner.stats import ALPHA


def false_failures(runs: int, alpha: float = ALPHA) -> float:
    """Share of unchanged runs that a one-sided test of level `alpha` fails against the best run.

    The best is that of so many runs of the same stack. Their values vary about the same mean as the
    judged run's, with the same normal error. An exact test of a few questions fails fewer.
    """
    from scipy.integrate import quad

    normal = NormalDist()
    limit = normal.inv_cdf(1 - alpha) * math.sqrt(2)

    def density(best: float) -> float:
        return runs * normal.pdf(best) * normal.cdf(best) ** (runs - 1) * normal.cdf(best - limit)

    return float(quad(density, -8, 8)[0])
