"""Percentiles of numbers that are read twice are those of NumPy, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from runner.stats import percentiles
from runner.stats.percentiles import Percentiles

PERCENTS = (0, 12.5, 50, 99, 100)
RNG = np.random.default_rng(7)
VALUES = {
    "one": np.array([0.25]),
    "two": np.array([0.25, 3.0]),
    "zeros": np.zeros(1000),
    "equal": np.full(1001, 0.125),
    "zeros of both signs": np.array([0.0, -0.0, 1.0, 0.0]),
    "few distinct": RNG.choice([0.0, 1e-7, 0.5, 0.5000001, 2.0], 5000),
    "of one bin": 1 + RNG.random(4000) * 1e-3,
    "wide": 10 ** RNG.uniform(-300, 300, 5001),
    "of float32": np.abs(
        RNG.exponential(0.2, 9000).astype(np.float32).astype(float)
        - RNG.exponential(0.2, 9000).astype(np.float32).astype(float)
    ),
    "mostly zeros": np.where(RNG.random(3000) < 0.985, 0.0, RNG.random(3000)),
    "smallest": np.array([0.0, 5e-324, 1e-310, 2.2e-308]),
}


def found(parts: Sequence[NDArray[np.float64]]) -> list[float]:
    twice = Percentiles(PERCENTS)
    for part in parts:
        twice.add(part)
    twice.again()
    for part in reversed(parts):
        twice.add(part)
    return twice.found()


@pytest.mark.parametrize("name", VALUES)
def test_they_are_those_of_numpy_to_the_last_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = VALUES[name]
    expected = list(np.percentile(values, PERCENTS))
    assert found([values]) == expected
    monkeypatch.setattr(percentiles, "BLOCK", 300)
    assert found(np.array_split(values, 7)) == expected


def test_many_sizes_are_interpolated_as_numpy_does() -> None:
    for size in range(1, 120):
        values = RNG.exponential(1.0, size)
        assert found(np.array_split(values, 3)) == list(np.percentile(values, PERCENTS))


def test_without_numbers_there_are_none() -> None:
    assert all(map(math.isnan, found([np.empty(0)])))


def test_only_the_numbers_that_decide_are_kept() -> None:
    values = RNG.exponential(1.0, 400_000)
    twice = Percentiles((50, 99))
    twice.add(values)
    twice.again()
    twice.add(values)
    assert 0 < sum(own.size for own, _ in twice._kept) < 0.02 * values.size


def test_numbers_that_are_not_finite_are_left_out() -> None:
    values = np.array([1.0, math.nan, 3.0, math.inf])
    assert found([values, values[1:2]]) == list(np.percentile([1.0, 3.0], PERCENTS))
    assert all(map(math.isnan, found([values[1:2]])))
