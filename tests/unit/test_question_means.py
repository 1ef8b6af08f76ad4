"""Statistics of questions asked several times, and of baselines with an error of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from runner.stats import ALPHA, betting, drops, estimates, repeated, resampling

RUNS = 400
# Three standard errors of a share of 5 % in RUNS simulated runs.
SLACK = 3 * math.sqrt(0.05 * 0.95 / RUNS)


def answered(
    generator: np.random.Generator, chances: Sequence[float], answers: int
) -> list[list[float]]:
    """Scores of 0 or 1: so many answers to each question, right with its chance."""
    return [[float(each) for each in generator.random(answers) < chance] for chance in chances]


def chances(generator: np.random.Generator, n: int, mean: float) -> np.ndarray:
    """Questions of unequal difficulty: most are nearly always or nearly never right."""
    return generator.beta(2 * mean, 2 * (1 - mean), n)


def share_failed(n: int, k: int, k_reference: int, mean: float, drop: float = 0.0) -> float:
    generator = np.random.default_rng(20261130)
    failed = 0
    for _ in range(RUNS):
        own = chances(generator, n, mean)
        before = answered(generator, own, k_reference)
        after = answered(generator, np.clip(own - drop, 0, 1), k)
        failed += drops.of_question_means(before, after, 1, 1.0).p <= ALPHA
    return failed / RUNS


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.5, 0.8, 0.95])
def test_thirty_questions_with_eight_answers_fail_in_at_most_5_percent(mean: float) -> None:
    assert share_failed(30, 8, 8, mean) <= 0.05 + SLACK


@pytest.mark.slow
@pytest.mark.parametrize(("k", "k_reference"), [(8, 1), (1, 8), (2, 16)])
@pytest.mark.parametrize("mean", [0.8, 0.9])
def test_so_do_runs_with_different_numbers_of_answers(
    k: int, k_reference: int, mean: float
) -> None:
    """Student's t, and sign flips alone, fail 9 % of sound runs where the reference has one."""
    assert share_failed(30, k, k_reference, mean) <= 0.05 + SLACK


@pytest.mark.slow
def test_a_drop_of_ten_points_is_found_with_eight_answers_each() -> None:
    assert share_failed(30, 8, 8, 0.8, drop=0.1) > 0.8


@pytest.mark.slow
def test_a_pass_with_a_drop_at_the_margin_is_rarer_than_5_percent() -> None:
    generator = np.random.default_rng(7)
    for n, margin in ((30, 0.2), (198, 0.05)):
        passed = 0
        for _ in range(RUNS):
            own = np.clip(chances(generator, n, 0.85), margin, 1)
            before, after = (answered(generator, own - lost, 4) for lost in (0, margin))
            passed += drops.of_question_means(before, after, 1, 1.0).upper < margin
        assert passed / RUNS <= 0.05


def test_rare_total_losses_are_not_passed() -> None:
    """One question in fifty scores 0 where it scored 0.9; the others move a little. Student's t
    passes a third of such runs, because most have no such question among their 100."""
    generator, passed, n, margin = np.random.default_rng(3), 0, 100, 0.015
    for _ in range(RUNS):
        lost = np.where(generator.random(n) < 0.02, 0.9, 0.0) + generator.normal(0, 0.005, n)
        passed += betting.upper(list(np.clip(lost, -1, 1)), -1, 1) < margin
    assert passed / RUNS <= 0.05


def test_a_bet_is_exact_for_a_single_value() -> None:
    """Against a mean of at most 0.5, stakes of s win s for a value of 1: the mean over stakes."""
    stakes = np.geomspace(betting.SMALLEST, betting.LARGEST, betting.STAKES)
    assert betting.p_at_most([1.0], 0.5, 0.0) == pytest.approx(1 / np.mean(1 + stakes))
    assert betting.p_at_most([0.0], 0.5, 0.0) == 1.0
    assert betting.p_at_most([0.5] * 9, 0.5, 0.0) == pytest.approx(1.0)


def test_bounds_of_bets_enclose_the_mean_and_close_in() -> None:
    values = [0.0, 1.0, 1.0, 0.5] * 20
    low, high = betting.lower(values, 0, 1), betting.upper(values, 0, 1)
    assert low < 0.625 < high
    more = values * 4
    assert betting.lower(more, 0, 1) > low
    assert betting.upper(more, 0, 1) < high
    assert betting.lower([0.0] * 9, 0, 1) == 0
    assert betting.upper([1.0] * 9, 0, 1) == 1
    # A bound at which the test just rejects.
    assert betting.p_at_most(values, low, 0.0) == pytest.approx(ALPHA, rel=1e-3)


def test_values_of_zero_decide_from_the_number_that_is_stated() -> None:
    for margin in (0.02, 0.1, 0.3):
        n = betting.questions_needed(margin, 1.0)
        assert betting.upper([0.0] * (2 * n), -1, 1) < margin
        assert betting.upper([0.0] * (n // 2), -1, 1) > margin


def test_sampled_sign_flips_agree_with_all_of_them() -> None:
    differences = [0.25, -0.125, 0.5, 0.0, 0.375, -0.25, 0.125, 0.25]
    exact = resampling.sign_flip_drop(differences)
    assert resampling.sign_flip_sampled(differences) == pytest.approx(exact, abs=0.02)
    assert resampling.sign_flip_sampled([0.0] * 5) == 1.0


def test_answers_dealt_again_agree_with_the_exact_test_of_flips() -> None:
    """With one answer each, only flipped questions count: McNemar's test."""
    before = [[1.0]] * 9 + [[0.0]] * 2 + [[1.0]] * 20
    after = [[0.0]] * 9 + [[1.0]] * 2 + [[1.0]] * 20
    exact = drops.of_flips(9, 2, 31).p
    assert resampling.exchanged_drop(before, after) == pytest.approx(exact, abs=0.01)


def test_the_direction_counts() -> None:
    before, after = [[1.0, 1.0], [1.0, 0.0]] * 10, [[0.0, 1.0], [0.0, 0.0]] * 10
    worse = drops.of_question_means(before, after, 1, 1.0)
    assert (worse.drop, worse.p < 0.001) == (0.5, True)
    better = drops.of_question_means(before, after, -1, 1.0)
    assert (better.drop, better.p) == (-0.5, 1.0)


def test_what_would_decide() -> None:
    """Noise within questions can be averaged away by more answers, differences between cannot."""
    noisy = drops.Repeats(answers=4, sampling=0.05, other=0.0, most=1.0)
    assert noisy.answers_needed(200, 0.05) is not None
    assert (noisy.answers_needed(200, 0.05) or 0) > 4
    unequal = drops.Repeats(answers=4, sampling=0.0, other=0.05, most=1.0)
    assert unequal.answers_needed(200, 0.02) is None
    # Thirty questions may lack a rare loss, however often they are asked.
    assert noisy.answers_needed(30, 0.05) is None


# A baseline that is an estimate


@pytest.mark.parametrize(
    ("n", "of_baseline", "mean"), [(30, 30, 0.9), (198, 198, 0.85), (198, 30, 0.8)]
)
def test_two_sound_runs_fail_in_at_most_5_percent(n: int, of_baseline: int, mean: float) -> None:
    """If the baseline is taken as exact, 12 % of them fail, or more."""
    generator, failed, as_exact = np.random.default_rng(11), 0, 0
    for _ in range(RUNS):
        known = int(generator.binomial(of_baseline, mean))
        right = int(generator.binomial(n, mean))
        p, _ = estimates.drop(estimates.share(known, of_baseline), estimates.share(right, n))
        failed += p <= ALPHA
        as_exact += drops.of_share(right, n, known / of_baseline).p <= ALPHA
    assert failed / RUNS <= 0.05 + SLACK
    assert as_exact / RUNS > 0.07


def test_an_estimate_without_error_is_a_number() -> None:
    value = estimates.share(80, 100)
    p, upper = estimates.drop(estimates.normal(0.9, 1e-12), value)
    exact = drops.of_share(80, 100, 0.9)
    assert p == pytest.approx(exact.p, rel=0.2)
    assert upper == pytest.approx(exact.upper, abs=1e-6)
    assert estimates.drop(estimates.normal(0.7, 0.01), value)[0] == 1.0


def test_what_more_samples_cannot_decide() -> None:
    value = estimates.share(170, 198)
    drop = drops.of_estimates(value, 0.025, 198, estimates.normal(0.9, 0.055), 0.055)
    assert (drop.to_pass(0.02), drop.to_fail(0.02)) == (None, None)
    assert (drop.to_pass(0.2), drop.to_fail(0.2)) == (199, 199)


# Several answers to a question


def test_pass_at_k_is_unbiased() -> None:
    """The mean over all samples of k of the answers, counted."""
    assert repeated.pass_at(0, 8, 4) == 0
    assert repeated.pass_at(8, 8, 4) == 1
    assert repeated.pass_at(5, 8, 4) == 1
    assert repeated.pass_at(1, 4, 2) == pytest.approx(3 / 6)
    assert repeated.pass_at(3, 10, 1) == pytest.approx(0.3)


def test_the_sizes_of_pass_at_k() -> None:
    assert repeated.sizes(1) == [1]
    assert repeated.sizes(8) == [1, 2, 4, 8]
    assert repeated.sizes(10) == [1, 2, 4, 8, 10]


@pytest.mark.parametrize(
    ("votes", "scores", "score"),
    [
        (["7", "7", "5"], [1, 1, 0], 1),
        (["5", "5", "7"], [0, 0, 1], 0),
        (["5", "7"], [0, 1], 0.5),
        (["7"], [1], 1),
    ],
)
def test_the_majority_decides(votes: list[str], scores: list[float], score: float) -> None:
    assert repeated.majority(votes, scores) == score


def test_variances_within_and_between() -> None:
    within, between = repeated.components([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]])
    assert within == pytest.approx((1 / 3) / 3)
    assert between == pytest.approx(0.25)
