"""Questions that stand out: by hand, and how often correct stacks fail by them, in simulations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from runner.stats.excess import excess, filled
from runner.stats.outliers import Unasked, outliers

FACTOR = 3.0
N = 40


def runs(count: int, n: int = N, seed: int = 0) -> list[list[float]]:
    """Noise runs in which no question stands out."""
    return np.random.default_rng(seed).uniform(1.0, 2.0, (count, n)).tolist()


def test_questions_that_stand_out_are_counted_for_the_run_that_has_them() -> None:
    noise = runs(3)
    noise[1][0] = 30.0
    found = outliers([*[1.0] * 35, *[100.0] * 5], noise, FACTOR)
    assert (found.own, found.others) == (5, 1)
    # Five or six of six, each with a probability of 1 in 4.
    assert found.p == pytest.approx((6 * 3 + 1) / 4**6)


def test_as_much_as_the_factor_is_divided_by_it() -> None:
    noise = [[1.0] * N, [1.1] * N]
    assert outliers([13.1] * N, noise, FACTOR).own == 0  # 4 x 3 x 1.1 = 13.2
    assert outliers([13.3] * N, noise, FACTOR).own == N


def test_nothing_stands_out() -> None:
    found = outliers([1.0] * N, runs(2), FACTOR)
    assert (found.own, found.others, found.p) == (0, 0, 1.0)


def test_one_noise_run_stands_out_from_the_judged_run() -> None:
    found = outliers([0.0, 3.0], [[1.0, 1.0]], FACTOR)
    assert (found.own, found.others) == (0, 1)


def test_copies_and_runs_that_hardly_differ_do_not_count_as_further_noise_runs() -> None:
    own = [*[4.0] * 35, *[100.0] * 5]
    (noise,) = runs(1)
    alone = outliers(own, [noise], FACTOR)
    assert alone.p == pytest.approx(1 / 2**5)
    nearly = [*noise[:30], *[1.5] * 10]
    assert outliers(own, [noise, noise, nearly, [1e-8] * N], FACTOR) == alone


def test_a_few_questions_fail_a_run_whose_mean_and_typical_ratio_do_not() -> None:
    random = np.random.default_rng(3)
    noise = random.uniform(0.5, 2.0, (3, 100)).tolist()
    own = random.uniform(0.5, 2.0, 100)
    own[:6] = [30.0, 40.0, 50.0, 60.0, 70.0, 2000.0]
    alone = excess(list(own), noise[0], FACTOR)
    assert not alone.exceeds
    found = excess(list(own), noise[0], FACTOR, noise)
    assert found.exceeds
    assert found.p == pytest.approx(1 / 4**6 / 0.9)


def test_a_run_that_stands_out_more_often_than_noise_runs_do_does_not_pass() -> None:
    random = np.random.default_rng(3)
    noise = random.uniform(0.9, 1.1, (3, 1000)).tolist()
    own = random.uniform(0.9, 1.1, 1000)
    assert excess(list(own), noise[0], FACTOR, noise).within
    own[0] = 30.0
    found = excess(list(own), noise[0], FACTOR, noise)
    assert found.upper < FACTOR and not found.exceeds and not found.within
    for run, place in zip(noise, (1, 2, 3), strict=True):
        run[place] = 30.0  # as often as each noise run
    assert excess(list(own), noise[0], FACTOR, noise).within


@pytest.mark.parametrize("repeats", [True, False])
def test_one_noise_run_does_not_excuse_a_few_damaged_questions(repeats: bool) -> None:
    """It stands out in most questions of a run that differs less, or repeats them exactly."""
    for damaged, seed in itertools.product((12, 0), range(3)):
        random = np.random.default_rng([seed, damaged])
        usual = 1e-3 * random.lognormal(0, 0.5, 600)
        own, noise = (usual * random.lognormal(0, 0.3, 600) for _ in range(2))
        if repeats:
            own[:] = 1e-8
            own[-20:] = usual[-20:]
        own[:damaged] = 0.04
        bars = [noise.tolist()]
        found = excess(
            own.tolist(), bars[0], FACTOR, bars, bars=bars, usual=filled(own.tolist(), 1e-8)
        )
        assert found.outliers is not None and found.outliers.own == damaged
        assert found.within == (damaged == 0)


@pytest.mark.parametrize(
    ("repeated", "runs", "louder"), [(0.4, 2, 2.0), (0.45, 4, 1.0), (0.7, 1, 2.0), (0.9, 1, 2.0)]
)
@pytest.mark.parametrize("sigma", [0.7, 1.2])
def test_noise_that_repeats_questions_hides_no_few_damaged_ones(
    repeated: float, runs: int, louder: float, sigma: float
) -> None:
    """What is filled in is a bar for others, but no question in which a noise run stands out."""
    for damaged, seed in itertools.product((12, 0), range(3)):
        random = np.random.default_rng([seed, damaged])
        usual = 1e-3 * random.lognormal(0, sigma, 1000)
        own, *noise = (usual * random.lognormal(0, 0.3, 1000) for _ in range(6))
        for each in noise[:runs]:
            each *= louder
            each[random.permutation(1000)[: int(1000 * repeated)]] = 1e-8
        own[random.permutation(1000)[:damaged]] = 0.05
        measured = [each.tolist() for each in noise]
        bars = [filled(each, 1e-8) for each in measured]
        loudest = measured.index(max(measured, key=sum))
        found = excess(own.tolist(), bars[loudest], FACTOR, measured, bars=bars)
        assert (found.exceeds, found.within) == (damaged > 0, damaged == 0)


def test_questions_that_were_not_asked_say_how_rare_it_is_to_stand_out() -> None:
    noise = [run + more for run, more in zip(runs(3), runs(3, 5 * N, seed=1), strict=True)]
    own = [*[1.0] * (N - 2), 100.0, 100.0]
    asked = [run[:N] for run in noise]
    assert outliers(own, asked, FACTOR).p == pytest.approx(1 / 4**2)

    def p(noise: Sequence[Sequence[float]]) -> float:
        rest = [run[N:] for run in noise]
        return outliers(
            own, asked, FACTOR, unasked=Unasked(rest, rest, [1 / 6] * N, [1 / 6] * 5 * N)
        ).p

    assert p(noise) == pytest.approx(1 / 19**2)  # 1/6 in 1/6 + 3
    noise[2][-1] = 30.0  # two or three of three
    assert p(noise) == pytest.approx((3 * 18 + 1) / 19**3)


def test_a_group_of_which_all_questions_were_asked_costs_the_others_nothing() -> None:
    """One of two that stand out was drawn with certainty, the other with 1/6."""
    noise = [run + more for run, more in zip(runs(3), runs(3, 5 * N, seed=1), strict=True)]
    own = [*[1.0] * (N - 2), 100.0, 100.0]
    asked, rest = [run[:N] for run in noise], [run[N:] for run in noise]
    drawn = [*[1 / 6] * (N - 1), 1.0]
    found = outliers(own, asked, FACTOR, unasked=Unasked(rest, rest, drawn, [1 / 6] * 5 * N))
    assert found.p == pytest.approx(1 / 19 * 1 / 4)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [200, 600])
@pytest.mark.parametrize(("noisy", "sigma"), [(0.0, 0.5), (0.1, 0.5), (0.02, 1.5), (0.5, 2.5)])
def test_a_random_draw_of_questions_keeps_the_level(whole: int, noisy: float, sigma: float) -> None:
    """Also if some questions have a hundred times the noise; a sound run is judged at its limit."""
    random = np.random.default_rng([whole, int(100 * noisy), int(10 * sigma)])
    rounds, failed = 2000, 0
    for _ in range(rounds):
        usual = np.where(np.arange(whole) < noisy * whole, 100.0, 1.0)
        own, *noise = (usual * np.exp(sigma * random.normal(size=(4, whole)))).tolist()
        order = random.permutation(whole)
        asked, left = order[:100], order[100:]
        rest = [[run[i] for i in left] for run in noise]
        found = outliers(
            [FACTOR * own[i] for i in asked],
            [[run[i] for i in asked] for run in noise],
            FACTOR,
            unasked=Unasked(rest, rest, [100 / whole] * 100, [100 / whole] * (whole - 100)),
        )
        failed += found.p <= 0.009
    assert failed / rounds <= 0.009 + 3 * (0.009 / rounds) ** 0.5


def test_a_random_draw_finds_damage_in_four_of_a_hundred_questions() -> None:
    found = {True: 0, False: 0}
    for seed in range(200):
        random = np.random.default_rng(seed)
        own, *noise = np.exp(0.3 * random.normal(size=(4, 600)))
        own[random.permutation(600)[:25]] *= 200.0
        order = random.permutation(600)
        asked, rest = order[:100], [run[order[100:]].tolist() for run in noise]
        for drawn in found:
            found[drawn] += (
                outliers(
                    own[asked].tolist(),
                    [run[asked].tolist() for run in noise],
                    FACTOR,
                    unasked=Unasked(rest, rest, [1 / 6] * 100, [1 / 6] * 500) if drawn else None,
                ).p
                <= 0.009
            )
    assert found[True] / 200 > 0.88  # at least 2 of about 4: in 94 %
    assert found[False] / 200 < 0.7


def failing(n: int, count: int, ratio: float, sigma: float, rounds: int, whole: bool) -> float:
    """Share of simulated correct stacks that fail: all tests, or the one of outliers at 0.9 %.

    All runs are independent and log-normal; `sigma` is the standard deviation of logarithms.
    """
    random = np.random.default_rng([n, count, int(10 * ratio), int(10 * sigma)])
    failed = 0
    for _ in range(rounds):
        own, *noise = np.exp(sigma * random.normal(size=(1 + count, n))).tolist()
        values = [ratio * each for each in own]
        if whole:
            loudest = max(noise, key=sum)
            failed += excess(values, loudest, FACTOR, noise).exceeds
        else:
            failed += outliers(values, noise, FACTOR).p <= 0.009
    return failed / rounds


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [1.0, 2.0])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("n", [30, 100, 198, 900])
def test_noise_of_any_distribution_rarely_stands_out(n: int, count: int, sigma: float) -> None:
    """0.5 %, and three standard errors of 600 runs."""
    for ratio in (1.0, 2.0, FACTOR):
        assert failing(n, count, ratio, sigma, 600, whole=False) <= 0.0136


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [1.0, 2.0])
@pytest.mark.parametrize("n", [30, 100, 198, 900])
def test_all_tests_together_hold_their_level(n: int, sigma: float) -> None:
    """1 %, and three standard errors of 250 runs."""
    for ratio in (1.0, FACTOR):
        assert failing(n, 3, ratio, sigma, 250, whole=True) <= 0.03
