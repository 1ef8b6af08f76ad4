"""A random projection whose rows depend only on a column's number, so all engines share it."""

from __future__ import annotations

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

    def of(self, rows: NDArray[Any], start: int = 0) -> NDArray[Any]:
        """The sketches, [rows, size], of [rows, columns] whose first column has number `start`.

        The sum over parts of the columns is the sketch of all columns. The squared norm of a
        sketch has the row's squared norm as its mean.
        """
        end = start + rows.shape[1]
        while len(self._signs) < end:
            drawn = np.random.default_rng([SEED, len(self._signs) // BLOCK])
            signs = drawn.integers(0, 2, size=(BLOCK, self._size)) * 2.0 - 1.0
            self._signs = np.concatenate([self._signs, signs])
        projected: NDArray[Any] = rows @ self._signs[start:end] / np.sqrt(self._size)
        return projected
