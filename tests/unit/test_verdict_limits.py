"""No rule passes without evidence: few samples, unknown limits of scores, rare total losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from runner.baseline import Baseline
from runner.config.verdict import MetricRuleConfig
from runner.evidence.samples import Sample
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.plan import Evaluation
from runner.stats import drops
from runner.stats.limits import Limits
from runner.status import Status
from runner.verdict import Against, MetricVerdict, judge
from tests.unit.test_verdict_rules import NOT_WORSE, PAIRED, TASK, USED, only, questions


def outcome(samples: Sequence[Sample], metric: str, higher: bool = True) -> Outcome:
    value = sum(each.scores[metric] for each in samples) / len(samples)
    result = MetricResult(TASK, metric, "none", value, 0.01, len(samples), higher, False)
    return Outcome(
        State.COMPLETED, tasks=(TaskOutcome(TASK, (result,), len(samples), len(samples)),)
    )


def judged(
    rule: str,
    before: Sequence[float],
    after: Sequence[float],
    margin: float = 0.02,
    metric: str = "reward",
) -> MetricVerdict:
    """The verdict on a run, against the scores of another or, under not_worse, their mean."""
    sides = [
        [replace(each, scores={metric: each.scores["acc"]}) for each in questions(scores)]
        for scores in (before, after)
    ]
    mean = Baseline(sum(before) / len(before))
    baselines = {metric: {"none": mean}} if rule == "not_worse" else {}
    evaluation = Evaluation(TASK, None, True, True, None, "auto", baselines)
    own = MetricRuleConfig(margin=margin)
    config = replace(
        NOT_WORSE if rule == "not_worse" else PAIRED, metrics={TASK: {metric: {"none": own}}}
    )
    reference = Against(USED, outcome(sides[0], metric), sides[0], {TASK: None})
    return only(
        judge(
            outcome(sides[1], metric),
            (evaluation,),
            config,
            sides[1],
            None if rule == "not_worse" else reference,
        )
    )


@pytest.mark.parametrize("rule", ["paired", "not_worse"])
@pytest.mark.parametrize("scores", [[3.7], [100.0] * 3, [12.0, 30.0] * 6 + [20.0]])
def test_few_scores_of_unknown_limits_are_inconclusive(rule: str, scores: list[float]) -> None:
    found = judged(rule, scores, scores)
    assert found.status is Status.INCONCLUSIVE
    assert f"{len(scores)} sample" in found.reason
    assert "the smallest and the largest possible score of reward are unknown" in found.reason
    assert "use at least 14" in found.reason


@pytest.mark.parametrize("rule", ["paired", "not_worse"])
def test_equal_scores_of_unknown_limits_are_inconclusive(rule: str) -> None:
    found = judged(rule, [100.0] * 50, [100.0] * 50)
    assert found.status is Status.INCONCLUSIVE
    assert "all scores are 100, and the smallest" in found.reason


@pytest.mark.parametrize("rule", ["paired", "not_worse"])
def test_one_score_between_0_and_1_is_inconclusive(rule: str) -> None:
    assert judged(rule, [0.4], [0.4]).status is Status.INCONCLUSIVE
    assert judged(rule, [0.4] * 5, [0.4] * 5).status is Status.INCONCLUSIVE


def test_enough_scores_of_unknown_limits_are_judged_and_say_what_is_assumed() -> None:
    before = np.random.default_rng(1).normal(30, 8, 400)
    after = before + np.random.default_rng(2).normal(0, 0.5, 400)
    found = judged("paired", before.tolist(), after.tolist(), margin=0.2)
    assert (found.status, found.test) == (Status.PASSED, drops.T_TEST)
    assert "the possible range of scores is unknown (here " in found.evidence
    assert "assumes that no rare, larger losses are missing" in found.evidence


def test_declared_limits_of_a_metric_are_used() -> None:
    """truthfulqa's bleu_max lies between 0 and 100, even if all of these are below 1."""
    scores = [0.25, 0.5, 0.75] * 10
    narrow = judged("paired", scores, scores, metric="reward")
    wide = judged("paired", scores, scores, metric="bleu_max")
    assert narrow.upper is not None and wide.upper is not None
    assert wide.upper == pytest.approx(100 * narrow.upper, rel=1e-3)
    assert wide.evidence == "0 samples worse, 0 better"


def test_a_perplexity_of_few_samples_is_inconclusive() -> None:
    own = [replace(each, scores={}) for each in questions([0.0] * 5)]
    result = MetricResult(TASK, "perplexity", "none", 12.0, 0.001, 5, False, False)
    evaluation = Evaluation(
        TASK, None, True, True, None, "auto", {"perplexity": {"none": Baseline(12.0)}}
    )
    run = Outcome(State.COMPLETED, tasks=(TaskOutcome(TASK, (result,), 5, 5),))
    found = only(judge(run, (evaluation,), NOT_WORSE, own))
    assert found.status is Status.INCONCLUSIVE
    assert "5 samples are not enough" in found.reason


# Margins that no drop exceeds


def test_a_margin_as_large_as_the_largest_drop_is_inconclusive() -> None:
    found = judged("paired", [1.0, 0.0] * 100, [0.0] * 200, margin=1.0)
    assert found.status is Status.INCONCLUSIVE
    assert "the margin is 1, but the score can drop by at most 1" in found.reason


def test_a_baseline_below_the_margin_is_inconclusive() -> None:
    """A run without a single right answer would pass."""
    before = [1.0] * 4 + [0.0] * 96
    found = judged("not_worse", before, [0.0] * 100, margin=0.05)
    assert found.status is Status.INCONCLUSIVE
    assert "the margin is 0.05, but the score can drop by at most 0.04" in found.reason
    assert judged("not_worse", before, [0.0] * 100, margin=0.03).status is Status.FAILED


def test_a_margin_beyond_the_scores_seen_is_judged_if_their_limits_are_unknown() -> None:
    """Scores from 29 to 31 were seen, but others are possible."""
    scores = [29.0, 30.0, 31.0] * 20
    assert judged("not_worse", scores, scores, margin=1.5).status is Status.PASSED
    assert judged("not_worse", scores, [20.0, 21.0] * 30, margin=1.5).status is Status.FAILED


# Rare total losses


def share_passed(n: int, margin: float, runs: int = 300) -> float:
    """Share of passes if the true drop is the margin: all scores jitter, a few are lost."""
    generator, passed = np.random.default_rng(20261130), 0
    for _ in range(runs):
        lost = np.where(generator.random(n) < margin / 0.9, 0.9, 0.0)
        differences = (lost + generator.normal(0, 0.005, n)).clip(-1, 1)
        passed += drops.of_differences(differences.tolist(), Limits(-1.0, 1.0)).upper < margin
    return passed / runs


def test_rare_total_losses_are_passed_in_at_most_5_percent() -> None:
    """By Student's t or the bootstrap, 31 % of these runs pass: they have no such loss."""
    assert share_passed(100, 0.01, runs=80) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 198, 900])
@pytest.mark.parametrize("margin", [0.01, 0.02])
def test_so_they_are_for_any_number_of_samples(n: int, margin: float) -> None:
    assert share_passed(n, margin) <= 0.05


def test_a_measured_baseline_does_not_hide_rare_losses() -> None:
    """The bound of the run's own value is a bet as well: 30 equal scores are little evidence."""
    evaluation = Evaluation(
        TASK, None, True, True, None, "auto", {"acc": {"none": Baseline(0.801, stderr=0.001)}}
    )

    def verdict(scores: Sequence[float]) -> MetricVerdict:
        own = questions(scores)
        return only(judge(outcome(own, "acc"), (evaluation,), NOT_WORSE, own))

    for few in ([0.8], [0.8, 0.8], [0.4]):
        assert verdict(few).status is Status.INCONCLUSIVE
    found = verdict([0.8 + 0.001 * (place % 3) for place in range(30)])
    assert (found.status, found.test) == (Status.INCONCLUSIVE, drops.BOTH_BOUNDS)
    assert found.upper is not None and 0.1 < found.upper < 0.2
