"""A random projection whose rows depend only on a column's number, so all engines share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 20260829
# Columns whose signs are drawn together.
BLOCK = 4096


class Projection:
    """Projects rows of any width to `size` numbers, with random signs (Achlioptas, 2003)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._signs = np.empty((0, size))

    def of(self, rows: NDArray[Any], numbers: Sequence[int]) -> NDArray[Any]:
        """The sketches, [rows, size], of [rows, columns]; `numbers` are those of the columns.

        The sum over parts of the columns is the sketch of all columns. The squared norm of a
        sketch has the row's squared norm as its mean.
        """
        while len(self._signs) <= max(numbers, default=0):
            drawn = np.random.default_rng([SEED, len(self._signs) // BLOCK])
            signs = drawn.integers(0, 2, size=(BLOCK, self._size)) * 2.0 - 1.0
            self._signs = np.concatenate([self._signs, signs])
        if isinstance(numbers, range):
            signs = self._signs[numbers.start : numbers.stop]
        else:
            signs = self._signs[np.asarray(numbers, dtype=np.int64)]
        projected: NDArray[Any] = rows @ signs / np.sqrt(self._size)
        return projected
