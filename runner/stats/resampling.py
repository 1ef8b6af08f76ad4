"""Resampling tests and bounds of a mean, for data where Student's t is doubtful."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from runner.stats import ALPHA

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# With fewer non-zero values, Student's t raises more false alarms than its level (4 changes in one
# direction have p = 0.046, but happen by chance in 1 of 8 cases). Then all 2^n signs are counted.
FEW = 14
RESAMPLES = 4000
SEED = 20251125
# Number of indices drawn at once: 8 MB.
CHUNK = 1_000_000


def t_is_doubtful(values: Sequence[float]) -> bool:
    """Whether there are too few values for Student's t: fewer than 28 + 25 G², G their skewness.

    Sugden, Smith & Jones, "Cochran's rule for simple random sampling", JRSS B 62 (2000) 787. The
    values must not all be equal.
    """
    from scipy.stats import skew

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nearly equal values
        skewness = float(skew(values))
    return bool(len(values) < 28 + 25 * skewness**2)


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p: the share of all sign assignments whose sum is at least as far from zero."""
    import numpy as np

    return float(np.mean(np.abs(_signed_sums(differences)) >= abs(math.fsum(differences)) - 1e-9))


def sign_flip_drop(differences: Sequence[float]) -> float:
    """One-sided p: the share of all sign assignments whose sum is at least as large."""
    import numpy as np

    return float(np.mean(_signed_sums(differences) >= math.fsum(differences) - 1e-9))


def sign_flip_sampled(differences: Sequence[float], resamples: int = RESAMPLES) -> float:
    """One-sided p of `sign_flip_drop` for any number of differences, from random signs.

    The observed signs count as one of the samples, so the level holds exactly. The seed is fixed.
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    generator, reached = np.random.default_rng(SEED), 0
    rows = max(CHUNK // len(values), 1)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        signs = generator.integers(0, 2, (count, len(values)), dtype=np.int8) * 2.0 - 1.0
        reached += int(np.count_nonzero(signs @ values >= values.sum() - 1e-9))
    return (1 + reached) / (1 + resamples)


def exchanged_drop(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> float:
    """One-sided p of a drop, if each question's answers could as well come from the other run.

    `before` and `after` have the scores of each question, in any number. The answers of both runs
    are dealt again at random within each question: a stratified permutation test. The seed is
    fixed.
    """
    import numpy as np

    generator = np.random.default_rng(SEED)
    dealt = np.zeros(RESAMPLES)
    observed = 0.0
    for one, other in zip(before, after, strict=True):
        pool = np.array([*one, *other])
        observed += float(np.mean(one)) - float(np.mean(other))
        order = generator.permuted(np.tile(pool, (RESAMPLES, 1)), axis=1)
        dealt += order[:, : len(one)].mean(axis=1) - order[:, len(one) :].mean(axis=1)
    return (1 + int(np.count_nonzero(dealt >= observed - 1e-9))) / (1 + RESAMPLES)


def bootstrap(
    values: Sequence[float], alpha: float = ALPHA, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """One-sided p of a true mean of 0 or less, and upper bound of the mean, by the bootstrap-t.

    Efron & Tibshirani, An Introduction to the Bootstrap (1993), 12.5: resampled means in units of
    their own standard errors replace the unknown distribution of t. The seed is fixed.
    """
    import numpy as np

    data = np.asarray(values, dtype=float)
    n, center = len(data), float(np.mean(data))
    stderr = float(np.std(data, ddof=1)) / math.sqrt(n)
    found = np.sort(np.concatenate(list(_studentized(data, center, resamples))))
    p = (1 + np.count_nonzero(found >= center / stderr)) / (1 + len(found))
    lowest = found[max(math.ceil(alpha * (len(found) + 1)) - 1, 0)]
    return float(p), float(center - lowest * stderr)


def _studentized(
    data: NDArray[np.float64], center: float, resamples: int
) -> Iterator[NDArray[np.float64]]:
    import numpy as np

    generator, n = np.random.default_rng(SEED), len(data)
    left = resamples
    while left > 0:
        rows = min(left, max(CHUNK // n, 1))
        left -= rows
        drawn = data[generator.integers(0, n, (rows, n))]
        error = drawn.std(axis=1, ddof=1) / math.sqrt(n)
        distance = drawn.mean(axis=1) - center
        spread = error > 0
        # A resample with only one distinct value is infinitely far from the mean, on its
        # side.
        yield np.where(
            spread,
            distance / np.where(spread, error, 1.0),
            np.where(distance == 0, 0.0, np.copysign(np.inf, distance)),
        )


def _signed_sums(differences: Sequence[float]) -> NDArray[np.float64]:
    import numpy as np

    moved = np.array([abs(d) for d in differences if d])
    ways = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
    sums: NDArray[np.float64] = (2 * ways - 1) @ moved
    return sums
