"""The statistics of a sweep's comparison, against values computed by hand or by other code."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import NormalDist

import pytest

from runner.stats.flips import mcnemar
from runner.sweep.answers import Answer, Answers
from runner.sweep.effects import MCNEMAR, SIGN_FLIP, T_TEST, Effect, effect


def answers(scores: Sequence[float], responses: Sequence[str] | None = None) -> Answers:
    said = responses or [str(score) for score in scores]
    return {
        str(place): Answer(score, text.encode())
        for place, (score, text) in enumerate(zip(scores, said, strict=True))
    }


def paired(worse: int, better: int, n: int) -> tuple[Answers, Answers]:
    """n questions, of which some got worse and some better; the others were and are right."""
    first = [1.0] * worse + [0.0] * better + [1.0] * (n - worse - better)
    second = [0.0] * worse + [1.0] * better + [1.0] * (n - worse - better)
    return answers(first), answers(second)


def found(pairs: Sequence[tuple[Answers, Answers]]) -> Effect:
    result = effect(pairs)
    assert result is not None
    return result


# One pair of 0/1 scores


def test_one_pair_of_binary_scores() -> None:
    seen = found([paired(31, 12, 600)])
    assert (seen.test, seen.n, seen.up, seen.down, seen.pairs) == (MCNEMAR, 600, 12, 31, 1)
    assert (seen.changes(True), seen.changes(False)) == ((12, 31), (31, 12))
    assert seen.difference == pytest.approx(-19 / 600)
    assert seen.p == pytest.approx(mcnemar(31, 12))
    assert seen.share and not seen.identical


# Several pairs, or scores in between


def test_a_question_is_the_unit() -> None:
    """Ten identical pairs are no more evidence than one."""
    one, ten = found([paired(31, 12, 600)]), found([paired(31, 12, 600)] * 10)
    assert (ten.n, ten.up, ten.down) == (600, 12, 31)
    assert ten.difference == pytest.approx(one.difference)
    assert ten.test == T_TEST
    assert ten.p == pytest.approx(one.p, rel=0.5)


def test_paired_t_by_hand() -> None:
    differences = [0.1, 0.3, -0.2, 0.4, 0.2] * 4
    first = answers([0.5] * 20)
    seen = found([(first, answers([0.5 + d for d in differences]))])
    # mean 0.16, sum of squares about it 4 * 0.212; t = 3.3873 with 19 degrees of freedom
    stderr = math.sqrt(4 * 0.212 / (20 * 19))
    assert seen.stderr == pytest.approx(stderr)
    assert seen.interval == pytest.approx(
        (0.16 - 2.0930 * stderr, 0.16 + 2.0930 * stderr), rel=1e-4
    )
    assert seen.test == T_TEST
    assert seen.p == pytest.approx(0.0031, abs=2e-4)


def test_few_changes_are_counted_not_approximated() -> None:
    """Four changes to one side: 2 of the 16 ways to sign them are as extreme."""
    seen = found([paired(4, 0, 600), paired(4, 0, 600)])
    assert seen.test == SIGN_FLIP
    assert seen.p == pytest.approx(2 / 16)


def test_every_question_moved_by_the_same() -> None:
    seen = found([(answers([0.2] * 30), answers([0.3] * 30))])
    assert seen.interval is None or seen.interval[0] == pytest.approx(seen.interval[1])
    assert seen.p < 1e-6


# Which questions


def test_unpaired_questions_are_counted() -> None:
    first, second = answers([1, 0, 1, 1]), answers([1, 0, 1, 1, 0])
    del second["0"]
    seen = found([(first, second)])
    assert (seen.n, seen.unpaired) == (3, 2)


def test_a_question_counts_wherever_it_was_paired() -> None:
    small, large = paired(1, 0, 3), paired(2, 0, 6)
    seen = found([small, large])
    assert (seen.n, seen.unpaired, seen.down) == (6, 0, 2)


def test_nothing_in_common() -> None:
    assert effect([(answers([1, 0]), {"other": Answer(1, b"")})]) is None
    assert effect([]) is None


def test_identical_to_the_letter_or_in_score_only() -> None:
    scores = [1.0, 0.0, 1.0]
    assert found([(answers(scores), answers(scores))]).identical
    seen = found([(answers(scores, ["A", "B", "C"]), answers(scores, ["A", "D", "C"]))])
    assert (seen.identical, seen.answers_differ, seen.difference) == (False, 1, 0)


# Several comparisons, and what could have been seen


def test_detectable_difference_is_millers_formula() -> None:
    seen = found([paired(31, 12, 600)])
    assert seen.detectable() == pytest.approx((1.95996 + 0.84162) * seen.stderr, rel=1e-4)
    assert seen.detectable(10) > seen.detectable()


def test_detectable_difference_promises_nothing_an_exact_test_cannot_see() -> None:
    # Five changes to one side have p = 0.0625, six 0.031.
    assert mcnemar(5, 0) > 0.05 > mcnemar(6, 0)
    assert found([paired(0, 0, 600)]).detectable() == pytest.approx(6 / 600)


def test_detectable_difference_is_found_as_often_as_it_says() -> None:
    """A simulation: 10 % of answers change, and their balance is off by the detectable amount."""
    generator, n, trials = random.Random(4), 600, 300
    share = 0.1
    null_stderr = math.sqrt(share / n)
    normal = NormalDist()
    effect_size = (normal.inv_cdf(0.975) + normal.inv_cdf(0.8)) * null_stderr
    up = (share + effect_size) / 2
    hits = 0
    for _ in range(trials):
        draws = [generator.random() for _ in range(n)]
        better = sum(x < up for x in draws)
        worse = sum(up <= x < share for x in draws)
        hits += mcnemar(worse, better) < 0.05
    assert 0.68 < hits / trials < 0.88  # an exact test is a little below its nominal power


@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("flips", [0.005, 0.05])
def test_false_alarms(pairs: int, flips: float) -> None:
    """Without an effect, at most 1 in 20 comparisons is called one; by how much less is luck."""
    generator, trials, n = random.Random(7), 300, 200
    alarms = 0
    for _ in range(trials):
        truth = [float(generator.random() < 0.5) for _ in range(n)]

        def run(truth: list[float] = truth) -> Answers:
            return answers([1 - s if generator.random() < flips else s for s in truth])

        alarms += found([(run(), run()) for _ in range(pairs)]).p < 0.05
    assert alarms / trials < 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / trials)
