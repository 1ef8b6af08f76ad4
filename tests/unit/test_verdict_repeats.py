"""Verdicts on questions asked several times, and on baselines that say how they were measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest

from runner.baseline import Baseline
from runner.config.verdict import VerdictConfig
from runner.evidence.questions import by_question
from runner.evidence.samples import Sample
from runner.outcome import MetricResult, Outcome, Repeated, State, TaskOutcome
from runner.plan import Evaluation
from runner.stats import drops
from runner.stats.means import standard_error
from runner.status import Status
from runner.verdict import Against, MetricVerdict, ReferenceUsed, Verdict, gates, judge
from runner.verdict.explanation import beneath

PAIRED = VerdictConfig(rule="paired", margin=0.1, reference="other")
NOT_WORSE = VerdictConfig(rule="not_worse", margin=0.05)
USED = ReferenceUsed("other", "/runs/other", None, "m", "cuda", "TP1", "e", "v", "PASSED")
Scores = Sequence[Sequence[float]]


def asked(baseline: Baseline | None = None) -> Evaluation:
    baselines = {} if baseline is None else {"acc": {"none": baseline}}
    return Evaluation("t", None, True, True, None, "auto", baselines)


def rows(scores: Scores, guessed: bool = False) -> list[Sample]:
    return [
        Sample(
            "t",
            number,
            doc_hash=f"d{number}",
            prompt_hash=f"p{number}",
            scores={"acc": score},
            repeat=repeat,
            guessed=guessed and repeat == 0,
        )
        for number, own in enumerate(scores)
        for repeat, score in enumerate(own)
    ]


def run(scores: Scores, higher: bool = True, **counts: int) -> Outcome:
    means, samples = [fmean(own) for own in scores], len(scores[0])
    metric = MetricResult(
        "t", "acc", "none", fmean(means), standard_error(means), len(scores), higher, samples == 1
    )
    if samples > 1:
        metric = replace(metric, repeated=Repeated(samples, 0.1, 0.1))
    size = {"expected": len(scores), "evaluated": len(scores), "samples": samples, **counts}
    return Outcome(State.COMPLETED, tasks=(TaskOutcome("t", (metric,), **size),))


def paired(before: Scores, after: Scores, margin: float = 0.1) -> Verdict:
    reference = Against(USED, run(before), rows(before), {"t": None})
    rule = replace(PAIRED, margin=margin)
    return judge(run(after), (asked(),), rule, rows(after), reference)


def not_worse(scores: Scores, baseline: Baseline, margin: float = 0.05) -> Verdict:
    rule = replace(NOT_WORSE, margin=margin)
    return judge(run(scores), (asked(baseline),), rule, rows(scores))


def only(verdict: Verdict) -> MetricVerdict:
    (metric,) = [each for each in verdict.metrics if each.judged]
    return metric


SOUND = [[1.0, 1.0, 1.0, 0.0]] * 150 + [[0.0, 0.0, 1.0, 0.0]] * 50
WORSE = [[1.0, 0.0, 1.0, 0.0]] * 150 + [[0.0, 0.0, 0.0, 0.0]] * 50
ONCE = [[own[0]] for own in SOUND]


def test_answers_to_a_question_are_one_piece_of_evidence() -> None:
    merged = by_question(rows(SOUND))
    assert len(merged) == 200
    assert merged[0].scores == {"acc": 0.75}
    assert [each.scores["acc"] for each in merged[0].rows] == [1, 1, 1, 0]
    assert by_question(rows(ONCE)) == rows(ONCE)


def test_paired_judges_question_means() -> None:
    metric = only(paired(SOUND, SOUND))
    assert (metric.status, metric.test) == (Status.PASSED, drops.SIGN_FLIP_SAMPLED)
    assert (metric.n, metric.answers, metric.drop) == (200, 4, 0)
    metric = only(paired(SOUND, WORSE))
    assert metric.status is Status.FAILED
    assert metric.drop == pytest.approx(0.25)
    assert metric.evidence == "200 questions worse, 0 better"


def test_runs_with_different_numbers_of_answers_are_paired() -> None:
    same = only(paired(ONCE, SOUND, margin=0.5))
    assert same.test == drops.PERMUTATION
    assert same.status is Status.PASSED
    assert only(paired(ONCE, [[0.0] * 4] * 200)).status is Status.FAILED


def test_a_missing_answer_is_not_passed_over() -> None:
    reference = Against(USED, run(SOUND), rows(SOUND), {"t": None})
    verdict = judge(run(SOUND), (asked(),), PAIRED, rows(SOUND)[:-1], reference)
    assert verdict.status is Status.INCONCLUSIVE
    assert "1 questions have more or fewer than 4 saved answers" in verdict.reason


def test_the_verdict_says_whether_samples_or_questions_would_decide() -> None:
    often = [[1.0, 0.0] * 16] * 150
    few = [[1.0, 0.0]] * 76 + [[1.0, 1.0]] * 37 + [[0.0, 0.0]] * 37
    verdict = paired(often, few, margin=0.07)
    assert verdict.status is Status.INCONCLUSIVE
    assert "questions with 2 samples each, or " in verdict.reason
    assert "samples of each of these 150, are needed to pass" in verdict.reason
    thirty = paired(often[:30], few[:14] + few[76:84] + few[-8:], margin=0.1)
    assert "more samples of only 30 questions in this run are not enough" in thirty.reason


def test_not_worse_bets_on_question_means() -> None:
    metric = only(not_worse(SOUND, Baseline(0.625), margin=0.1))
    assert (metric.status, metric.test) == (Status.PASSED, drops.BETTING)
    assert only(not_worse(WORSE, Baseline(0.625))).status is Status.FAILED
    said = beneath(only(not_worse(SOUND, Baseline(0.64), margin=0.06)))
    assert "questions with 4 samples each pass a run without a drop" in said


def test_where_less_is_better_a_gain_is_a_drop() -> None:
    outcome = run(SOUND, higher=False)
    verdict = judge(outcome, (asked(Baseline(0.3)),), NOT_WORSE, rows(SOUND))
    assert verdict.status is Status.FAILED
    assert only(verdict).drop == pytest.approx(0.325)


def test_guesses_count_as_wrong_in_every_answer() -> None:
    outcome = run(SOUND)
    lucky = replace(outcome.tasks[0].metrics[0], luck=0.2)
    task = replace(outcome.tasks[0], metrics=(lucky,), guessed=200)
    verdict = judge(
        replace(outcome, tasks=(task,)),
        (asked(Baseline(0.62)),),
        replace(NOT_WORSE, margin=0.1),
        rows(SOUND, guessed=True),
    )
    assert verdict.status is Status.INCONCLUSIVE
    assert "lm-eval guessed 200 of 800 answers at random" in verdict.reason


def test_numerics_does_not_judge_sampled_answers() -> None:
    rule = VerdictConfig(rule="numerics", reference="other")
    reference = Against(USED, run(ONCE, drawn=200), rows(ONCE), {"t": None})
    verdict = judge(run(ONCE, drawn=200), (asked(),), rule, rows(ONCE), reference)
    assert verdict.status is Status.INCONCLUSIVE
    assert "answers are sampled at random" in verdict.reason


# Baselines with an error or a tolerance of their own


def right(count: int, n: int) -> list[list[float]]:
    return [[1.0]] * count + [[0.0]] * (n - count)


def test_a_baseline_of_few_questions_fails_less() -> None:
    """24 of 30 against a published 90 %: 10 points below a number, but not below 27 of 30."""
    as_exact = only(not_worse(right(22, 30), Baseline(0.9)))
    assert as_exact.status is Status.FAILED
    measured = only(not_worse(right(22, 30), Baseline(0.9, n=30)))
    assert (measured.status, measured.test) == (Status.INCONCLUSIVE, drops.BOTH_BOUNDS)
    assert measured.p is not None
    assert 0.05 < measured.p < 0.3
    assert "more samples cannot decide, because the baseline's own standard error is 0.0548" in (
        measured.reason
    )
    assert only(not_worse(right(15, 30), Baseline(0.9, n=30))).status is Status.FAILED


def test_a_published_standard_error_counts_as_well() -> None:
    scores = right(170, 198)
    wide = only(not_worse(scores, Baseline(0.92, stderr=0.04), margin=0.2))
    narrow = only(not_worse(scores, Baseline(0.92), margin=0.2))
    assert wide.upper is not None and narrow.upper is not None
    assert wide.upper > narrow.upper
    assert (narrow.status, wide.status) == (Status.FAILED, Status.PASSED) or (
        wide.p is not None and narrow.p is not None and wide.p > narrow.p
    )


@pytest.mark.parametrize(
    ("correct", "status"),
    [(23, Status.FAILED), (24, Status.PASSED), (27, Status.PASSED), (30, Status.PASSED)],
)
def test_a_baselines_own_tolerance_is_absolute(correct: int, status: Status) -> None:
    """The gate "90 ± 10" of 30 questions."""
    baseline = Baseline(0.9, n=30, tolerance=0.1)
    verdict = judge(run(right(correct, 30)), (asked(baseline),), VerdictConfig())
    assert verdict.status is status
    metric = only(verdict)
    assert metric.tolerated == (pytest.approx(0.8), pytest.approx(1.0))
    assert ("within 0.1 of 0.9" if status is Status.PASSED else "more than 0.1 below 0.9") in (
        metric.reason
    )


@pytest.mark.parametrize(
    ("value", "tolerance", "correct", "n"),
    [(0.95, 0.05, 32, 32), (0.8333, 0.1, 22, 30), (0.93, 0.05, 88, 100), (0.85, 0.05, 90, 100)],
)
def test_both_ends_of_a_tolerance_pass(
    value: float, tolerance: float, correct: int, n: int
) -> None:
    """1 - 0.95 is a little more than 0.05 in floating point; the original test passes it."""
    baseline = Baseline(value, n=n, tolerance=tolerance)
    verdict = judge(run(right(correct, n)), (asked(baseline),), VerdictConfig())
    assert verdict.status is Status.PASSED
    assert correct in gates.absolute(value, tolerance, n).passing


def test_a_perfect_run_fails_a_two_sided_gate() -> None:
    """86.67 ± 10: every question right is 13.3 points above."""
    baseline = Baseline(0.8667, n=30, tolerance=0.1)
    verdict = judge(run(right(30, 30)), (asked(baseline),), VerdictConfig())
    assert verdict.status is Status.FAILED
    assert "more than 0.1 above 0.8667" in verdict.reason


def test_an_interval_of_perfect_answers_has_a_width() -> None:
    metric = only(not_worse([[1.0, 1.0]] * 30, Baseline(0.9)))
    assert metric.interval is not None
    outcome = run([[1.0, 1.0]] * 30)
    with_passes = replace(
        outcome.tasks[0].metrics[0], repeated=Repeated(2, 0.0, 0.0, {1: 1.0, 2: 1.0}, 1.0, 1.0, 0.0)
    )
    task = replace(outcome.tasks[0], metrics=(with_passes,))
    verdict = judge(replace(outcome, tasks=(task,)), (asked(Baseline(0.9)),), VerdictConfig())
    low, high = only(verdict).interval or (math.nan, math.nan)
    assert (round(low, 3), high) == (0.886, 1.0)
