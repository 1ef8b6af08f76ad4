"""What a test would have seen, and how many samples it needs to see more."""

from __future__ import annotations

import math
from statistics import NormalDist

from runner.statistics import ALPHA, POWER


def reach(alpha: float = ALPHA, power: float = POWER) -> float:
    """Standard errors to which a one-sided test sees with that power: z of 1 - alpha + z of power.

    Miller's sample-size formula (arXiv 2411.00640, power analysis), solved for the difference.
    """
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)


def fewest_flips(alpha: float = ALPHA) -> int:
    """Changes to one side that the exact McNemar test needs: the least k with 0.5^k <= alpha."""
    return math.ceil(-math.log2(alpha) - 1e-9)


def detectable_flips(flips: int, n: int, alpha: float = ALPHA) -> float:
    """The drop that the one-sided exact McNemar test finds with 80 % power.

    `flips` of n samples changed, and as many are taken to change again. The exact test asks for one
    flip more than its normal approximation; and it sees nothing below `fewest_flips`.
    """
    seen = reach(alpha) * math.sqrt(flips) + 1
    return max(seen, fewest_flips(alpha)) / n


def samples_for_flips(flips: int, n: int, margin: float, alpha: float = ALPHA) -> int:
    """Samples of which `detectable_flips` is the margin, where the same share of them changes."""
    share, z = flips / n, reach(alpha)
    # margin * m - z * sqrt(share * m) - 1 = 0, solved for sqrt(m).
    root = (z * math.sqrt(share) + math.sqrt(z * z * share + 4 * margin)) / (2 * margin)
    return max(math.ceil(root * root), math.ceil(fewest_flips(alpha) / margin))


def samples_for_error(stderr: float, n: int, margin: float, alpha: float = ALPHA) -> int:
    """Samples whose standard error puts the margin just within reach; it shrinks as 1/sqrt(n)."""
    return math.ceil(n * (reach(alpha) * stderr / margin) ** 2)
