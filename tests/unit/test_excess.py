"""Whether differences exceed a multiple of the noise: levels and power, in simulations."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.stopping import SMALL, looks_at
from runner.look import ONLY, Look
from runner.stats.excess import excess

FACTOR = 3.0


def drawn(
    random: np.random.Generator, n: int, ratio: float, alike: float
) -> tuple[list[float], list[float]]:
    """Skewed differences and noise of n questions, correlated, as bfloat16 gives them.

    Their logarithms have a standard deviation of 1.5: one question in a hundred is 30 times the
    median.
    """
    shared = random.normal(size=n) * 1.5 * alike
    own, other = (
        np.exp(shared + random.normal(size=n) * 1.5 * np.sqrt(1 - alike**2)) for _ in range(2)
    )
    return list(ratio * own), list(other)


def shares(n: int, ratio: float, rounds: int) -> tuple[float, float]:
    """How many simulated runs of n questions fail, and how many pass."""
    random = np.random.default_rng(n * 1000 + int(ratio * 10))
    found = [excess(*drawn(random, n, ratio, alike=0.7), FACTOR) for _ in range(rounds)]
    return sum(each.exceeds for each in found) / rounds, sum(each.within for each in found) / rounds


def test_the_numbers_of_a_known_case() -> None:
    found = excess([2.0, 4.0, 6.0, 8.0] * 10, [1.0] * 40, FACTOR)
    assert found.ratio == 5.0
    # The geometric mean of 2.001, 4.001, 6.001 and 8.001, divided by 1.001.
    assert found.typical == pytest.approx(4.4234, rel=1e-4)
    # -1, 1, 3, 5, …: mean 2, standard deviation 2.2646, and t = 1.6849 for 39 degrees of freedom.
    assert found.upper == pytest.approx(3 + 2 + 1.6849 * 2.2646 / 40**0.5, rel=1e-3)
    # No random signs reach the sum, and Student's t of the logarithms is 4.69: p = 1.7e-5.
    assert found.p == pytest.approx(2 * 1.7e-5, rel=0.1)
    assert found.exceeds and not found.within and found.questions is None


def test_equal_differences_need_no_error() -> None:
    assert excess([1.0] * 30, [1.0] * 30, FACTOR).within
    assert excess([4.0] * 30, [1.0] * 30, FACTOR).exceeds
    assert not excess([2.9] * 30, [1.0] * 30, FACTOR).exceeds


def test_one_huge_difference_does_not_hide_a_fault_that_all_questions_show() -> None:
    found = excess([*[15.0, 25.0] * 40, 100_000.0], [*[1.0, 2.0] * 40, 1.0], FACTOR)
    assert found.typical == pytest.approx(15.4, rel=0.05)
    assert found.exceeds


def test_questions_that_the_reference_run_got_wrong_do_not_hide_a_fault_of_all_others() -> None:
    """They differ from every run, so their noise is huge, and so is the mean noise."""
    wrong = [1_000_000.0] * 3
    found = excess([*[12.0, 20.0] * 40, *wrong], [*[1.0, 2.0] * 40, *wrong], FACTOR)
    assert found.ratio == pytest.approx(1.0, rel=0.01)
    assert found.typical == pytest.approx(10.0, rel=0.1)
    assert found.exceeds


def test_few_damaged_questions_fail_though_a_typical_one_is_healthy() -> None:
    found = excess([*[1.0, 1.2] * 40, *[500.0, 600.0] * 10], [1.0] * 100, FACTOR)
    assert found.typical < FACTOR + 1 and found.ratio > 100
    assert found.exceeds


def test_the_number_of_questions_that_decides() -> None:
    found = excess([1.0, 7.0] * 12, [1.0, 2.0] * 12, FACTOR)
    assert not found.exceeds and not found.within
    assert found.questions is not None and found.questions > 24


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 198, 900, 1319])
def test_as_much_as_the_factor_rarely_fails_or_passes(n: int) -> None:
    failed, passed = shares(n, FACTOR, 250)
    assert failed <= 0.03  # 1 %, and three standard errors of 250 runs
    assert passed <= 0.09  # 5 %, and three standard errors


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 198, 900])
def test_noise_never_fails_and_passes_where_there_are_enough_questions(n: int) -> None:
    failed, passed = shares(n, 1.0, 250)
    assert failed == 0
    assert passed >= {30: 0.3, 100: 0.75, 198: 0.9, 900: 0.99}[n]


@pytest.mark.slow
def test_a_hundred_questions_find_what_is_far_above_the_noise() -> None:
    failed, passed = shares(100, 15.0, 250)
    assert failed >= 0.99 and passed == 0


def test_a_look_before_the_end_has_a_share_of_the_level() -> None:
    values, levels = [4.5, 5.5] * 20, [1.0] * 40
    whole, early, last = (
        excess(values, levels, FACTOR, look=look) for look in (ONLY, Look(2, 5), Look(5, 5))
    )
    assert last.p == pytest.approx(2 * whole.p)
    assert early.p == pytest.approx(8 * whole.p)
    assert early.upper == last.upper == whole.upper  # only the last look can pass


def partly_damaged(random: np.random.Generator, n: int, damaged: int) -> list[float]:
    """Differences like the noise, of which some are 60 times as large."""
    own = np.exp(random.normal(size=n))
    own[:damaged] *= 60
    return list(own)


def test_damage_to_some_questions_fails_at_an_early_look() -> None:
    """A typical question stays below the limit, and 4,000 resamples are too few for the mean."""
    random = np.random.default_rng(5)
    found = [
        excess(partly_damaged(random, 200, 40), list(np.exp(random.normal(size=200))), FACTOR,
               look=Look(3, 12))
        for _ in range(4)
    ]  # fmt: skip
    assert all(each.typical < FACTOR for each in found)
    assert sum(each.exceeds for each in found) >= 3


def test_the_mean_rarely_fails_at_an_early_look_without_damage_beyond_the_factor() -> None:
    """Damage of 60 times to a question in thirty is a mean of about 3 times the noise."""
    random = np.random.default_rng(6)
    found = [
        excess(partly_damaged(random, 90, 3), list(np.exp(random.normal(size=90))), FACTOR,
               look=Look(3, 12))
        for _ in range(100)
    ]  # fmt: skip
    assert 2.5 < np.mean([each.ratio for each in found]) < 3.5
    assert not any(each.exceeds for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 900])
def test_levels_hold_for_all_looks_together(n: int) -> None:
    """Differences of 3 times the noise, the limit: 1 % may fail, and 5 % may pass."""
    random = np.random.default_rng(n)
    rounds, failed, passed = 100, 0, 0
    for _ in range(rounds):
        differences, noise = drawn(random, n, FACTOR, alike=0.7)
        found = [
            excess(differences[:end], noise[:end], FACTOR, look=look)
            for look, end in looks_at(n, SMALL)
        ]
        failed += any(each.exceeds for each in found)
        passed += found[-1].within  # as `replay` does
    assert failed <= 4  # with three standard errors of the simulation
    assert passed <= 11
