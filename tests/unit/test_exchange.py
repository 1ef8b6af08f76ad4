"""The permutation test within questions, against values computed by hand and by simulation."""

from __future__ import annotations

import random

import pytest
from scipy.stats import mannwhitneyu

from runner.stats.exchange import MANY, exchanged, ranks_exchanged

Values = list[list[float]]


def simulated(
    rng: random.Random, questions: int, samples: tuple[int, int], drop: float = 0.0
) -> tuple[Values, Values]:
    """Right and wrong answers to questions of all difficulties, and to the same ones again."""
    before, after = [], []
    for _ in range(questions):
        p = rng.random()
        before.append([float(rng.random() < p) for _ in range(samples[0])])
        after.append([float(rng.random() < p - drop) for _ in range(samples[1])])
    return before, after


def test_a_few_questions_are_counted_out() -> None:
    """Six questions, all right before and wrong after: 2 of 2^6 ways are as extreme."""
    assert exchanged([[1.0]] * 6, [[0.0]] * 6) == pytest.approx(2 / 64, abs=0.008)
    assert exchanged([[1.0, 0.0]] * 6, [[1.0, 0.0]] * 6) == 1.0
    assert exchanged([[0.3]] * 6, [[0.3]] * 6) == 1.0
    assert exchanged([], []) == 1.0


@pytest.mark.parametrize("samples", [(1, 1), (4, 4), (1, 8), (8, 2)])
def test_without_a_difference_one_in_twenty_is_called_one(samples: tuple[int, int]) -> None:
    rng = random.Random(5)
    found = [exchanged(*simulated(rng, 12, samples)) for _ in range(60)]
    # Binomial with 60 and 0.05: more than 8 in 0.4 % of cases.
    assert sum(p <= 0.05 for p in found) <= 8


def test_a_difference_is_found_that_pooled_answers_hide() -> None:
    """Questions differ far more in length than the two runs do."""
    rng = random.Random(5)
    before = [[1000.0 * n + rng.random() for _ in range(4)] for n in range(12)]
    after = [[1000.0 * n + 0.5 + rng.random() for _ in range(4)] for n in range(12)]
    pooled = mannwhitneyu([v for own in before for v in own], [v for own in after for v in own])
    assert pooled.pvalue > 0.5
    assert ranks_exchanged(before, after) < 0.01


def test_ranks_are_not_decided_by_one_value() -> None:
    before = [[float(n), float(n + 1)] for n in range(10)]
    after = [[float(n + 1), float(n)] for n in range(10)]
    after[0][0] = 1e9
    assert ranks_exchanged(before, after) > 0.5


def test_many_questions_are_approximated() -> None:
    """Just beyond and just below the limit, the two ways agree."""
    rng = random.Random(5)
    before, after = simulated(rng, 2 * MANY, (4, 8), drop=0.03)
    varied = [pair for pair in zip(before, after, strict=True) if len({*pair[0], *pair[1]}) > 1]
    few, many = varied[:MANY], varied[: MANY + 1]
    exact, normal = (exchanged([a for a, _ in own], [b for _, b in own]) for own in (few, many))
    assert 0.001 < exact < 0.9
    assert normal == pytest.approx(exact, rel=0.35)
