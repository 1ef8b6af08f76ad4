"""Runs that stop when their verdict is certain: order, looks, levels, and what is recorded."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.stopping import (
    MARGIN,
    SETTINGS,
    SMALL,
    Setting,
    Shares,
    decided,
    looks_at,
    simulated,
)
from runner.look import FEWEST, MOST, ONLY, Look, shuffled, sizes
from runner.stats import ALPHA, betting, drops
from runner.stats.clusters import in_clusters
from runner.stats.limits import Limits
from runner.status import Status

PAGE = (Path(__file__).parent.parent.parent / "docs/verdict.md").read_text(encoding="utf-8")
RUNS = 300
# Three standard errors of a share of 5 % in RUNS simulated runs.
SLACK = 3 * math.sqrt(0.05 * 0.95 / RUNS)
SCORES = Limits(-1.0, 1.0)


def shares(n: int, worse: float, better: float, runs: int = RUNS) -> Shares:
    return simulated(Setting(n, worse, better), SMALL, runs)


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 198, 900, 1319])
def test_at_most_5_percent_pass_with_a_drop_of_the_margin(n: int) -> None:
    assert shares(n, 0.025, 0.005).passed <= ALPHA + SLACK


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 198, 900, 1319])
def test_at_most_5_percent_fail_without_a_drop(n: int) -> None:
    assert shares(n, 0.03, 0.03).failed <= ALPHA + SLACK


@pytest.mark.slow
def test_both_levels_hold_for_the_largest_tasks() -> None:
    """MMLU's 14,042 questions: compared with the margin directly, as bounds take too long."""
    generator = np.random.default_rng(20261130)
    runs, half = 60, ALPHA / 2
    found: Counter[str] = Counter()
    for _ in range(runs):
        drawn = generator.random(14042)
        lossy = np.where(drawn < 0.025, 1.0, np.where(drawn > 0.995, -1.0, 0.0))
        equal = np.where(drawn < 0.02, 1.0, np.where(drawn > 0.98, -1.0, 0.0))
        ends = [end for look, end in looks_at(14042, SMALL) if not look.last]
        found["passed"] += any(
            betting.p_at_most(-lossy[:end], -MARGIN, -1.0, betting.EARLY) <= half for end in ends
        )
        found["failed"] += any(
            betting.p_at_most(equal[:end], 0.0, -1.0, betting.EARLY) <= half for end in ends
        )
    assert found["passed"] <= 5
    assert found["failed"] <= 5


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_runs_stop_as_early_as_the_page_says(setting: Setting) -> None:
    cells = [
        f"{setting.questions:,}",
        f"{100 * setting.worse:g} % / {100 * setting.better:g} %",
    ]
    line = next(each for each in PAGE.splitlines() if each.startswith(f"| {' | '.join(cells)} |"))
    passed, failed, asked = map(float, re.findall(r"\d+", " ".join(line.split(" | ")[3:5])))
    found = simulated(setting, SMALL, 100)
    error = 4 * math.sqrt(0.25 / 100)
    assert 100 * found.passed == pytest.approx(passed, abs=100 * error)
    assert 100 * found.failed == pytest.approx(failed, abs=100 * error)
    assert 100 * found.asked == pytest.approx(asked, abs=10)


@pytest.mark.parametrize("worse", [0, 1, 2, 3, 4, 5, 6])
def test_the_bound_is_below_the_margin_if_the_bet_against_it_wins(worse: int) -> None:
    flips = [1.0] * worse + [0.0] * (600 - worse)
    drop = drops.of_bets(flips, SCORES)
    won = betting.p_at_most([-each for each in flips], -MARGIN, -1.0, betting.EARLY) < ALPHA / 2
    assert won == (drop.upper < MARGIN) == (worse < 4)


@pytest.mark.slow
def test_subjects_of_which_one_in_ten_is_broken_pass_in_at_most_5_percent() -> None:
    """57 subjects of 40 questions; a broken one loses a fifth, so the mean drop is the margin."""
    generator = np.random.default_rng(20261130)
    runs, passed = 100, 0
    for _ in range(runs):
        broken = generator.random(57) < 0.1
        subject = generator.permutation(np.repeat(np.arange(57), 40))
        lost = (generator.random(len(subject)) < 0.2) & broken[subject]
        differences = lost.astype(float)
        for look, end in looks_at(len(subject), SMALL):
            own = differences[:end].tolist()
            if decided(own, look) is not Status.PASSED:
                continue
            plain = drops.of_bets(own, SCORES)
            if in_clusters(plain, own, subject[:end].tolist(), False, look).upper < MARGIN:
                passed += 1
                break
    assert passed / runs <= ALPHA + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_the_last_look_has_half_of_the_level_and_the_others_share_the_rest() -> None:
    every = [Look(number, 5) for number in range(1, 6)]
    assert sum(look.share for look in every) == 1
    assert every[-1].share == 0.5
    assert ONLY.share == 1 and ONLY.last


def test_p_and_bound_of_the_last_look_allow_for_the_earlier_ones() -> None:
    whole, last = drops.of_flips(12, 2, 200), drops.of_flips(12, 2, 200, Look(4, 4))
    assert last.p == pytest.approx(2 * whole.p)
    assert last.upper > whole.upper
    assert last.detectable() > whole.detectable()


def test_the_order_is_random_and_depends_on_the_seed_alone() -> None:
    questions = [(f"subject_{n // 20}", n) for n in range(600)]
    order = shuffled(questions, 1)
    assert sorted(order) == sorted(questions) and order != questions
    assert shuffled(reversed(questions), 1) == order != shuffled(questions, 2)
    first = Counter(name for name, _ in order[:300])
    assert all(2 <= first[f"subject_{n}"] <= 18 for n in range(30))


@pytest.mark.parametrize(
    ("n", "window", "expected"),
    [
        (30, 20, [20, 30]),
        (600, 256, [256, 512, 600]),
        (20, 256, [20]),
        (198, 8, [20, 40, 60, 80, 100, 120, 140, 160, 180, 198]),
    ],
)
def test_steps_fill_the_window(n: int, window: int, expected: list[int]) -> None:
    assert [end for _, end in looks_at(n, window)] == expected


def test_there_are_at_most_twelve_looks_of_at_least_twenty_questions() -> None:
    for n in (1, 19, 21, 239, 241, 900, 14042):
        ends = [end for _, end in looks_at(n, 1)]
        assert len(ends) <= MOST and ends[-1] == n
        assert ends[0] >= min(n, FEWEST)


def test_the_first_look_has_a_question_of_each_subtask() -> None:
    order = [("a", n) for n in range(70)] + [("b", n) for n in range(30)]
    assert sizes(order, 20) == [80, 100]
