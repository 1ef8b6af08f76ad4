"""How often a gate passes and fails: known values, every count, and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runner.audit.entry import aisbench
from runner.stats import drops
from runner.stats.gates import Gate, within
from runner.status import Status
from runner.verdict import gates
from runner.verdict.settle import decide

TRIALS = 40_000
SEED = 20261130


def error(share: float) -> float:
    """Four standard errors of a simulated share."""
    return 4 * math.sqrt(max(share * (1 - share), 1 / TRIALS) / TRIALS)


# Known values


def test_a_stack_at_80_percent_passes_90_plus_minus_10_of_30_in_61_percent() -> None:
    gate = aisbench(0.9, 0.1, 30)
    assert gate.passing == range(24, 31)
    assert gate.passes(0.8) == pytest.approx(0.607, abs=0.001)


def test_a_perfect_stack_always_fails_86_67_plus_minus_10() -> None:
    gate = aisbench(0.8667, 0.1, 30)
    assert gate.passes(1.0) == 0
    assert gate.fails(1.0) == 1
    assert gate.passing == range(23, 30)  # 23 of 30 is 76.67, the lower limit itself


def test_isclose_on_mmmu() -> None:
    gate = gates.isclose(0.51, 0.05, 900)
    assert gate.passing == range(438, 484)
    alarms = [100 * gate.fails(0.51 - lost) for lost in (0, 0.01, 0.02, 0.03, 0.05)]
    assert alarms == pytest.approx([12.7, 21.5, 41.0, 64.4, 94.2], abs=0.05)


def test_a_baseline_of_one_run_fails_an_unchanged_stack_more_often() -> None:
    """The beta-binomial, by scipy's own code."""
    from scipy.stats import betabinom

    gate = gates.isclose(0.51, 0.05, 900)
    known = betabinom(900, 0.51 * 900 + 0.5, 0.49 * 900 + 0.5)
    expected = 1 - float(known.cdf(483) - known.cdf(437))
    assert gate.fails_measured(0.51, 900) == pytest.approx(expected, abs=1e-9)
    assert gate.fails_measured(0.51, 900) > 2 * gate.fails(0.51)
    assert gate.fails_measured(0.51, 1e7) == pytest.approx(gate.fails(0.51), abs=1e-4)


# Every number of right answers


@pytest.mark.parametrize("baseline", [0.28, 0.42, 0.51, 0.765, 0.84, 0.9, 0.98])
@pytest.mark.parametrize("n", [49, 900, 1000])
def test_isclose_passes_what_numpy_passes(baseline: float, n: int) -> None:
    passing = gates.isclose(baseline, 0.05, n).passing
    for right in range(n + 1):
        close = bool(np.isclose(baseline, round(right / n, 4), rtol=0.05))
        assert (right in passing) == close, right


@pytest.mark.parametrize(
    ("baseline", "tolerance", "n"),
    [(93.33, 10, 30), (96.67, 10, 30), (95, 5, 32), (96.29, 1, 1319)],
)
def test_aisbench_passes_what_its_test_passes(baseline: float, tolerance: float, n: int) -> None:
    passing = aisbench(baseline / 100, tolerance / 100, n).passing
    for right in range(n + 1):
        said = float(f"{100 * right / n:.02f}")
        close = baseline - tolerance <= said <= baseline + tolerance
        assert (right in passing) == close, right


def test_not_worse_passes_fails_and_doubts_what_the_rule_does() -> None:
    gate = gates.not_worse(0.51, 0.05, 900)
    for right in range(901):
        drop = drops.of_share(right, 900, 0.51)
        status, _ = decide(drop.drop, drop.upper, drop.p, 0.05)
        assert (right in gate.passing) == (status is Status.PASSED), right
        assert (right in gate.undecided) == (status is Status.INCONCLUSIVE), right


def test_a_tolerance_is_absolute_and_its_ends_pass() -> None:
    assert gates.absolute(0.9, 0.1, 30).passing == range(24, 31)
    assert gates.absolute(0.9, 0.1, 30, samples=8).passing == range(192, 241)


def test_a_range_that_no_score_meets_passes_nothing() -> None:
    gate = within(10, 1, 0.41, 0.49, digits=4)
    assert (len(gate.passing), gate.passes(0.45), gate.fails(0.45)) == (0, 0.0, 1.0)


def test_open_ends() -> None:
    gate = within(10, 1, -math.inf, math.inf, digits=4)
    assert [gate.passes(accuracy) for accuracy in (0.0, 0.3, 1.0)] == [1.0, 1.0, 1.0]


# Simulations

SIMULATED: dict[str, tuple[Gate, float, float]] = {
    "isclose": (gates.isclose(0.765, 0.05, 1319), 0.765, 1319),
    "aisbench": (aisbench(0.8667, 0.1, 30), 0.8667, 30),
    "eight samples": (aisbench(0.9, 0.05, 30, 8), 0.9, 30),
    "not_worse": (gates.not_worse(0.8, 0.05, 198), 0.8, 198),
}


@pytest.mark.parametrize("name", SIMULATED)
@pytest.mark.parametrize("lost", [0.0, 0.02, 0.05, 0.1])
def test_the_shares_are_those_of_a_simulation(name: str, lost: float) -> None:
    gate, baseline, _ = SIMULATED[name]
    right = np.random.default_rng(SEED).binomial(gate.answers, baseline - lost, TRIALS)
    passed = float(np.isin(right, gate.passing).mean())
    undecided = float(np.isin(right, gate.undecided).mean())
    assert gate.passes(baseline - lost) == pytest.approx(passed, abs=error(passed))
    failed = 1 - passed - undecided
    assert gate.fails(baseline - lost) == pytest.approx(failed, abs=error(failed))


@pytest.mark.parametrize("name", SIMULATED)
def test_a_baseline_of_one_run_is_that_of_a_simulation(name: str) -> None:
    gate, baseline, answers = SIMULATED[name]
    generator = np.random.default_rng(SEED)
    ends = baseline * answers + 0.5, (1 - baseline) * answers + 0.5
    right = generator.binomial(gate.answers, generator.beta(*ends, TRIALS))
    failed = 1 - float(np.isin(right, [*gate.passing, *gate.undecided]).mean())
    assert gate.fails_measured(baseline, answers) == pytest.approx(failed, abs=error(failed))


# A fixed set of questions


def of_questions(chances: np.ndarray, samples: int) -> np.ndarray:
    """Distribution of the number of right answers: exact, question by question."""
    found = np.ones(1)
    for chance in np.repeat(chances, samples):
        found = np.convolve(found, [1 - chance, chance])
    return found


@pytest.mark.parametrize("samples", [1, 8])
@pytest.mark.parametrize("seed", range(5))
def test_questions_of_unequal_difficulty_keep_the_bounds(samples: int, seed: int) -> None:
    """Within the tolerance a stack passes at least as often as computed, outside at most."""
    gate = aisbench(0.9, 0.1, 30, samples)
    generator = np.random.default_rng(seed)
    inside = outside = 0
    for middle in (0.6, 0.7, 0.75, 0.85, 0.9, 0.95):
        chances = generator.beta(4 * middle, 4 * (1 - middle), 30)
        expected = float(chances.sum()) * samples
        passes = float(of_questions(chances, samples)[gate.passing.start :].sum())
        computed = gate.passes(float(chances.mean()))
        if expected >= gate.passing.start:
            inside += 1
            assert passes >= computed - 1e-12
        elif expected <= gate.passing.start - 1:
            outside += 1
            assert passes <= computed + 1e-12
    assert inside and outside


# Words


def test_a_gate_in_words() -> None:
    assert gates.said(aisbench(0.9, 0.1, 30), 0.9) == (
        "passes a stack that lost 5 points in 85 % of runs and fails an unchanged one in 2.6 %"
    )
    low = gates.isclose(0.03, 0.05, 1000)
    assert gates.said(low, 0.03) == "fails an unchanged stack in 78 % of runs"


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (0.0, "0 %"),
        (0.0004, "<0.1 %"),
        (0.043, "4.3 %"),
        (0.5, "50 %"),
        (0.991, "99.1 %"),
        (0.9999, ">99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_shares_in_words(part: float, text: str) -> None:
    assert gates.share(part) == text


def test_weak_means_a_5_point_loss_passes_or_an_unchanged_stack_fails() -> None:
    assert gates.weak(aisbench(0.9, 0.1, 30), 0.9)
    assert gates.weak(gates.isclose(0.51, 0.05, 900), 0.51)  # fails 12.7 % of unchanged stacks
    assert not gates.weak(gates.isclose(0.765, 0.05, 1319), 0.765)
    assert not gates.weak(gates.not_worse(0.51, 0.05, 900), 0.51)


def test_a_margin_that_no_drop_exceeds_neither_passes_nor_fails() -> None:
    gate = gates.not_worse(0.04, 0.05, 100)
    assert (gate.passes(0.0), gate.fails(0.0), gate.passes(1.0)) == (0, 0, 0)
