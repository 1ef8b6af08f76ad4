"""Change points: which night is named, and how often a night is named without a change."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from runner.stats.change_point import (
    FEWEST,
    LEVEL,
    best_p,
    changes,
    control_limits,
    further,
    gradual,
    step,
    trend,
)

GOOD, BAD = 0.904, 0.861


def drops(values: list[float]) -> list[int]:
    return [each.first for each in changes(values, 1) if each.worse]


def test_of_equal_values_a_change_is_found_at_its_night() -> None:
    (found,) = changes([GOOD] * 19 + [BAD] * 11, 1)
    assert (found.first, found.earliest, found.latest) == (19, 19, 19)
    assert (found.before, found.after, found.worse) == (GOOD, BAD, True)
    assert found.p <= 0.001


def test_a_smaller_value_can_be_better() -> None:
    values = [0.001] * 19 + [0.2] * 11
    assert [each.worse for each in changes(values, -1)] == [True]
    assert [each.worse for each in changes(values, 1)] == [False]


def test_equal_values_have_no_change() -> None:
    assert changes([GOOD] * 50, 1) == ()
    assert trend([GOOD] * 50, 1) is None


def test_rounding_is_no_change() -> None:
    assert changes([0.1 + 0.2] * 10 + [0.3] * 10, 1) == ()


def test_one_night_alone_is_no_evidence() -> None:
    assert drops([GOOD] * 29 + [BAD]) == []
    _, p = step([GOOD] * 29 + [BAD], 1)
    assert p == pytest.approx(best_p(30, 1), abs=0.02)
    assert further(30, 1) == 1
    assert drops([GOOD] * 29 + [BAD] * 2) == [29]


def test_too_few_nights_show_nothing() -> None:
    assert best_p(FEWEST, FEWEST // 2) <= LEVEL < best_p(FEWEST - 1, (FEWEST - 1) // 2)
    half = (FEWEST - 1) // 2
    assert changes([GOOD] * half + [BAD] * half, 1) == ()


@pytest.mark.parametrize("bad", [3, 11])
def test_one_broken_night_hides_nothing(bad: int) -> None:
    values = [GOOD] * 10 + [0.0] + [GOOD] * 16 + [BAD] * bad
    assert drops(values) == [27]


def test_a_fix_before_the_drop_hides_nothing() -> None:
    found = changes([BAD] * 10 + [GOOD] * 10 + [BAD] * 10, 1)
    assert [(each.first, each.worse) for each in found] == [(10, False), (20, True)]


def test_an_episode_has_two_ends() -> None:
    found = changes([GOOD] * 19 + [BAD] * 5 + [GOOD] * 6, 1)
    assert [(each.first, each.worse) for each in found] == [(19, True), (24, False)]


def test_a_slide_is_no_step() -> None:
    noise = random.Random(0)
    slide = [0.9 - 0.002 * night + noise.gauss(0, 0.002) for night in range(30)]
    found = trend(slide, 1)
    assert found is not None and found.p <= LEVEL
    assert found.slope == pytest.approx(-0.002, rel=0.2)
    assert gradual(slide, changes(slide, 1))
    steps = [GOOD] * 19 + [BAD] * 11
    assert not gradual(steps, changes(steps, 1))


def test_one_broken_night_makes_no_slide_of_a_step() -> None:
    noise = random.Random(0)
    values = [(0.90 if night < 19 else 0.88) + noise.gauss(0, 0.002) for night in range(30)]
    values[4] = 0.0
    found = changes(values, 1)
    assert [each.first for each in found if each.worse] == [19]
    assert not gradual(values, found)


def test_the_end_of_an_episode_is_told_from_a_step() -> None:
    found = changes([0.8] * 15 + [0.9] * 4 + [0.0], 1)
    assert [each.episode for each in found] == [True, True]
    assert [each.episode for each in changes([GOOD] * 19 + [BAD] * 11, 1)] == [False]
    assert step([GOOD] * 3, 1) == (1, 1.0)


def test_control_limits_are_a_prediction_interval() -> None:
    assert control_limits([1.0, 2.0, 3.0, 4.0]) is None
    assert control_limits([GOOD] * 5) == pytest.approx((GOOD, GOOD))
    # Of 1 to 5: mean 3, s = 1.5811, t(0.995, 4) = 4.6041.
    low, high = control_limits([1.0, 2.0, 3.0, 4.0, 5.0]) or (0.0, 0.0)
    assert (low, high) == pytest.approx((3 - 7.974, 3 + 7.974), abs=0.001)


def normal(random: random.Random) -> float:
    return random.gauss(0, 1)


def few_flips(random: random.Random) -> float:
    return GOOD + random.choice([0] * 6 + [-1, 1]) / 600


def broken_nights(random: random.Random) -> float:
    return 0.0 if random.random() < 0.05 else GOOD


@pytest.mark.slow
@pytest.mark.parametrize("nights", [12, 30])
@pytest.mark.parametrize("noise", [normal, few_flips, broken_nights])
def test_false_alarms_are_as_rare_as_stated(
    noise: Callable[[random.Random], float], nights: int
) -> None:
    """Of 400 series without a change, at most 14: above the 99.9th percentile of Bin(400, 1.5 %),
    which allows for an episode that ends in a drop."""
    seeded = random.Random(nights)
    alarms = sum(bool(drops([noise(seeded) for _ in range(nights)])) for _ in range(400))
    assert alarms <= 14


@pytest.mark.slow
def test_a_drop_of_three_times_the_noise_is_found_at_its_night() -> None:
    """Three bad nights of 30, in 50 series."""
    seeded = random.Random(1)
    found = [
        drops([seeded.gauss(0, 1) - 3.5 * (night >= 27) for night in range(30)]) for _ in range(50)
    ]
    assert sum(bool(each) for each in found) >= 45
    assert sum(27 in each for each in found) >= 40
