"""Exact percentiles of more numbers than memory holds: they are read twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Bits of a float64 in which the numbers of a bin may differ: a bin is at most 1.6 % wide.
WITHIN = 46
BINS = 1 << (63 - WITHIN)
# Numbers that are counted together.
BLOCK = 1 << 17


class Percentiles:
    """Percentiles of non-negative numbers, equal to those of np.percentile.

    `add` all numbers, in any parts and order, call `again`, and add all of them once more. The bits
    of such numbers are in the order of the numbers. So counts by the leading bits tell which few
    numbers can be a percentile, and only these are kept, equal ones once. NaN and infinite numbers
    are left out.
    """

    def __init__(self, percents: Sequence[float]) -> None:
        import numpy as np

        self._percents = percents
        self._counts = np.zeros(BINS, dtype=np.int64)
        self._wanted: NDArray[np.bool_] | None = None
        self._kept: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
        self._waiting = np.empty(BLOCK)
        self._size = 0

    @property
    def n(self) -> int:
        """Return how many finite numbers there are, once all were added."""
        return int(self._counts.sum())

    def add(self, numbers: NDArray[np.float64]) -> None:
        while len(numbers):
            taken, numbers = numbers[: BLOCK - self._size], numbers[BLOCK - self._size :]
            end = self._size + len(taken)
            self._waiting[self._size : end] = taken
            self._size = end
            if end == BLOCK:
                self._flush()

    def again(self) -> None:
        """Begin the second pass."""
        import numpy as np

        self._flush()
        self._wanted = np.zeros(BINS, dtype=np.bool_)
        for rank in {rank for each in self._percents for rank in self._ranks(each) if self.n}:
            self._wanted[self._bin(rank)[0]] = True

    def found(self) -> list[float]:
        """Return the percentiles after both passes; NaN without numbers."""
        import numpy as np

        self._flush()
        if not self.n:
            return [math.nan for _ in self._percents]
        values, counts = (np.concatenate(parts) for parts in zip(*self._kept, strict=True))
        order = np.argsort(values)
        values, counts = values[order], counts[order]
        bins = _bins(values)

        def number(rank: int) -> float:
            place, before = self._bin(rank)
            inside = bins == place
            reached = np.searchsorted(np.cumsum(counts[inside]), rank - before, side="right")
            return float(values[inside][reached])

        def percentile(percent: float) -> float:
            low, high = map(number, self._ranks(percent))
            return _between(low, high, self._place(percent) % 1)

        return list(map(percentile, self._percents))

    def _flush(self) -> None:
        import numpy as np

        numbers = self._waiting[: self._size]
        numbers = numbers[np.isfinite(numbers)] + 0.0  # -0.0 + 0.0 has no sign
        self._size = 0
        if self._wanted is None:
            self._counts += np.bincount(_bins(numbers), minlength=BINS)
        else:
            decisive = numbers[self._wanted[_bins(numbers)]]
            self._kept.append(np.unique(decisive, return_counts=True))

    def _place(self, percent: float) -> float:
        return (self.n - 1) * (percent / 100)

    def _ranks(self, percent: float) -> tuple[int, int]:
        """The ranks, counted from 0, of the two numbers that a percentile lies between."""
        low = math.floor(self._place(percent))
        return low, min(low + 1, self.n - 1)

    def _bin(self, rank: int) -> tuple[int, int]:
        """The bin of the number with this rank, and how many numbers lie in smaller bins."""
        import numpy as np

        ends = np.cumsum(self._counts)
        place = int(np.searchsorted(ends, rank, side="right"))
        return place, int(ends[place] - self._counts[place])


def _bins(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    import numpy as np

    return numbers.view(np.int64) >> WITHIN


def _between(low: float, high: float, share: float) -> float:
    """Interpolate linearly, rounding as NumPy does."""
    if share < 0.5:
        return low + (high - low) * share
    return high - (high - low) * (1 - share)
