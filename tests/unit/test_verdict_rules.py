"""not_worse, paired and numerics: what each passes and fails, and everything that none may pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from runner.config.verdict import MetricRuleConfig, NumericsConfig, VerdictConfig
from runner.evidence.samples import Sample
from runner.outcome import (
    Degeneracy,
    Degenerate,
    MetricResult,
    Outcome,
    State,
    TaskOutcome,
)
from runner.plan import Evaluation
from runner.stats import ALPHA, drops
from runner.stats.flips import mcnemar_drop, upper_drop
from runner.stats.shares import lower_bound
from runner.status import Status
from runner.verdict import Against, MetricVerdict, ReferenceUsed, Verdict, judge
from runner.verdict.explanation import beneath
from tests.baselines import exact

NOT_WORSE = VerdictConfig(rule="not_worse", margin=0.05)
PAIRED = VerdictConfig(rule="paired", margin=0.02, reference="other")
LIMITS = NumericsConfig(median=0.01, p99=0.2, differing=0.05)
NUMERICS = VerdictConfig(rule="numerics", reference="other", numerics=LIMITS)
USED = ReferenceUsed("other", "/runs/other", None, "m", "cuda", "TP1", "e", "v", "PASSED")
TASK = "t"


def asked(baseline: float | None = None, limit: float | None = None) -> Evaluation:
    baselines = {} if baseline is None else {"acc": {"none": baseline}}
    return Evaluation(TASK, None, True, True, limit, "auto", exact(baselines))


def questions(
    scores: Sequence[float], task: str = TASK, prompt: str = "p", filter_name: str = "none"
) -> list[Sample]:
    return [
        Sample(
            task=task,
            doc_id=number,
            filter=filter_name,
            doc_hash=f"d{number}",
            prompt_hash=f"{prompt}{number}",
            scores={"acc": score},
        )
        for number, score in enumerate(scores)
    ]


def run(
    samples: Sequence[Sample],
    higher: bool | None = True,
    stderr: float | None = 0.01,
    **counts: Any,
) -> Outcome:
    """A completed run whose one metric is the mean of the samples' scores."""
    scores = [sample.scores["acc"] for sample in samples]
    value = math.fsum(scores) / len(scores) if scores else math.nan
    results = [
        MetricResult(name, "acc", "none", value, stderr, len(scores), higher, False)
        for name in dict.fromkeys([TASK, *(sample.task for sample in samples)])
    ]
    size = {"expected": len(scores), "evaluated": len(scores), **counts}
    return Outcome(State.COMPLETED, tasks=(TaskOutcome(TASK, tuple(results), **size),))


def against(samples: Sequence[Sample], outcome: Outcome | None = None) -> Against:
    return Against(USED, outcome or run(samples), samples, {TASK: None})


def flipped(worse: int, better: int, n: int) -> tuple[list[float], list[float]]:
    """Scores of the reference run and of this one."""
    same = n - worse - better
    before = [1.0] * worse + [0.0] * better + [1.0] * (same // 2) + [0.0] * (same - same // 2)
    after = [0.0] * worse + [1.0] * better + before[worse + better :]
    return before, after


def paired(before: Sequence[float], after: Sequence[float], **changed: object) -> Verdict:
    rule = replace(PAIRED, **changed)
    own = questions(after)
    return judge(run(own), (asked(),), rule, own, against(questions(before)))


def only(verdict: Verdict) -> MetricVerdict:
    (metric,) = [each for each in verdict.metrics if each.judged]
    return metric


# paired


def test_a_drop_that_is_no_accident_fails() -> None:
    metric = only(paired(*flipped(40, 10, 900)))
    assert metric.status is Status.FAILED
    assert (metric.rule, metric.test) == ("paired", drops.MCNEMAR)
    assert metric.p == pytest.approx(mcnemar_drop(40, 10))
    assert metric.drop == pytest.approx(30 / 900)
    assert metric.baseline is not None and metric.value is not None
    assert metric.difference == pytest.approx(-30 / 900)
    assert "40 samples worse, 10 better" in metric.evidence


def test_a_bound_under_the_margin_passes() -> None:
    verdict = paired(*flipped(10, 10, 900))
    metric = only(verdict)
    assert verdict.exit_status == 0
    assert metric.status is Status.PASSED
    assert metric.upper == pytest.approx(upper_drop(10, 10, 900))
    assert metric.upper < metric.margin == 0.02
    assert "below the margin of 0.02" in metric.reason
    assert verdict.reference == USED


def test_what_is_neither_is_inconclusive_and_says_how_many_samples_would_decide() -> None:
    verdict = paired(*flipped(24, 20, 900), margin=0.01)
    metric = only(verdict)
    assert verdict.exit_status == 4
    assert metric.status is Status.INCONCLUSIVE
    assert metric.detectable is not None and 0.01 < metric.detectable < 0.025
    assert metric.samples_to_pass is not None and metric.samples_to_pass > 900
    assert metric.samples_to_fail is not None and metric.samples_to_fail > 900
    assert f"{metric.samples_to_pass:,} samples are needed to pass" in metric.reason
    assert f"{metric.samples_to_fail:,} samples are needed to fail" in metric.reason
    assert f"detectable drop {metric.detectable:.4f} (80 % power)" in beneath(metric)


def test_a_drop_that_is_there_but_surely_under_the_margin_passes() -> None:
    metric = only(paired(*flipped(60, 20, 20000)))
    assert metric.p is not None and metric.p < ALPHA
    assert metric.status is Status.PASSED


def test_a_gain_is_none_of_a_gates_business() -> None:
    metric = only(paired(*flipped(10, 60, 900)))
    assert metric.status is Status.PASSED
    assert metric.drop == pytest.approx(-50 / 900)
    assert "a gain of" in metric.reason


def test_where_lower_is_better_a_rise_is_the_drop() -> None:
    before, after = flipped(40, 10, 900)
    own = questions(before)
    verdict = judge(run(own, higher=False), (asked(),), PAIRED, own, against(questions(after)))
    metric = only(verdict)
    assert metric.status is Status.FAILED
    assert metric.drop == pytest.approx(30 / 900)
    assert metric.difference == pytest.approx(30 / 900)


@pytest.mark.parametrize("rule", [PAIRED, NOT_WORSE])
def test_a_metric_of_unknown_direction_is_not_guessed(rule: VerdictConfig) -> None:
    own = questions([1.0, 0.0] * 50)
    found = only(judge(run(own, higher=None), (asked(0.5),), rule, own, against(own)))
    assert found.status is Status.INCONCLUSIVE
    assert "verdict.metrics.t.acc.none.higher_is_better" in found.reason
    told = replace(rule, metrics={TASK: {"acc": {"none": MetricRuleConfig(higher_is_better=True)}}})
    found = only(judge(run(own, higher=None), (asked(0.5),), told, own, against(own)))
    assert found.p is not None


def test_fractional_scores_are_told_apart() -> None:
    """The peer's gate took any two scores above 0 for equal."""
    before = [0.9] * 100
    after = [0.5 + 0.004 * place for place in range(100)]
    metric = only(paired(before, after))
    assert metric.status is Status.FAILED
    assert metric.test in (drops.T_TEST, drops.BOOTSTRAP)
    assert metric.drop == pytest.approx(0.9 - sum(after) / 100)


def test_a_repeat_to_the_letter_passes_where_there_are_enough_samples() -> None:
    metric = only(paired([1.0, 0.0] * 300, [1.0, 0.0] * 300))
    assert (metric.status, metric.p) == (Status.PASSED, 1.0)
    few = only(paired([1.0, 0.0] * 20, [1.0, 0.0] * 20))
    assert few.status is Status.INCONCLUSIVE, "40 samples cannot rule out two points"
    fractions = [0.3, 0.7, 0.1] * 200
    assert only(paired(fractions, fractions)).status is Status.PASSED


def test_matched_by_content_in_whatever_order() -> None:
    before, after = flipped(10, 10, 900)
    own = questions(after)
    verdict = judge(run(own), (asked(),), PAIRED, own[::-1], against(questions(before)))
    assert only(verdict).evidence.startswith("10 samples worse, 10 better")


# paired: what is refused


def test_two_empty_runs_are_nothing_to_judge() -> None:
    empty = Outcome(State.COMPLETED, tasks=(TaskOutcome(TASK, (), 0, 0),))
    verdict = judge(empty, (asked(),), PAIRED, (), against((), empty))
    assert verdict.status is Status.UNJUDGED
    lenient = replace(PAIRED, require_baseline=False)
    assert judge(empty, (asked(),), lenient, (), against((), empty)).exit_status == 4
    result = MetricResult(TASK, "acc", "none", 0.0, None, 0, True, False)
    hollow = Outcome(State.COMPLETED, tasks=(TaskOutcome(TASK, (result,), 0, 0),))
    verdict = judge(hollow, (asked(),), PAIRED, (), against((), hollow))
    assert verdict.status is Status.INCONCLUSIVE
    assert "the two runs have no samples in common" in verdict.reason


def test_a_run_without_a_fifth_of_its_samples_is_refused() -> None:
    before, after = flipped(5, 5, 900)
    own = questions(after)[:720]
    verdict = judge(run(own, expected=900), (asked(),), PAIRED, own, against(questions(before)))
    assert verdict.status is Status.INCONCLUSIVE
    assert "180 only in the reference run" in verdict.reason
    assert "720 of 900 samples evaluated" in verdict.reason
    # The outcome counts all, and the file has lost some.
    whole = run(questions(after))
    verdict = judge(whole, (asked(),), PAIRED, own, against(questions(before)))
    assert verdict.status is Status.INCONCLUSIVE


def test_a_reference_without_a_fifth_of_its_samples_is_refused() -> None:
    before, after = flipped(5, 5, 900)
    own = questions(after)
    verdict = judge(run(own), (asked(),), PAIRED, own, against(questions(before)[:720]))
    assert verdict.status is Status.INCONCLUSIVE
    assert "180 not in the reference run" in verdict.reason


def test_other_prompts_are_refused() -> None:
    before, after = flipped(5, 5, 900)
    own = questions(after, prompt="Answer: ")
    verdict = judge(run(own), (asked(),), PAIRED, own, against(questions(before)))
    assert verdict.status is Status.INCONCLUSIVE
    assert "900 with a different prompt" in verdict.reason


def test_other_images_are_refused() -> None:
    before, after = flipped(5, 5, 900)
    own = [replace(sample, image_hashes=("x",)) for sample in questions(after)]
    verdict = judge(run(own), (asked(),), PAIRED, own, against(questions(before)))
    assert "900 with different images" in verdict.reason
    assert verdict.exit_status == 4


def test_even_a_clear_drop_is_no_finding_on_other_samples() -> None:
    own = questions([0.0] * 900, prompt="other")
    verdict = judge(run(own), (asked(),), PAIRED, own, against(questions([1.0] * 900)))
    assert verdict.status is Status.INCONCLUSIVE


def test_a_run_asked_less_on_purpose_is_held_against_its_part() -> None:
    before = [1.0, 0.0] * 450
    own = questions(before)[:500]
    limited = judge(run(own), (asked(limit=500.0),), PAIRED, own, against(questions(before)))
    metric = only(limited)
    assert metric.status is Status.PASSED
    assert metric.baseline == 0.5
    lost = judge(
        run(own[:400], expected=500), (asked(limit=500.0),), PAIRED, own[:400],
        against(questions(before)),
    )  # fmt: skip
    assert lost.status is Status.INCONCLUSIVE
    assert "400 of 500 samples evaluated" in lost.reason


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    before = [1.0] * 900
    assert paired([bad, *before[1:]], before).status is not Status.PASSED
    verdict = paired(before, [bad, *before[1:]])
    assert verdict.status is Status.FAILED, "the value itself is none"


def test_samples_without_a_score_are_refused() -> None:
    own = questions([1.0] * 900)
    outcome = run(own)
    torn = [replace(own[0], scores={}), *own[1:]]
    verdict = judge(outcome, (asked(),), PAIRED, torn, against(own))
    assert verdict.status is Status.INCONCLUSIVE
    assert "1 of 900 samples in this run have no score" in verdict.reason


def test_a_value_that_is_not_the_mean_of_its_scores_is_refused() -> None:
    own = questions([1.0, 0.0] * 450)
    outcome = run(own)
    result = replace(outcome.tasks[0].metrics[0], value=0.6)
    outcome = replace(outcome, tasks=(replace(outcome.tasks[0], metrics=(result,)),))
    verdict = judge(outcome, (asked(),), PAIRED, own, against(own))
    assert verdict.status is Status.INCONCLUSIVE
    assert "not the mean" in verdict.reason


def test_without_a_reference_nothing_passes() -> None:
    own = questions([1.0] * 900)
    assert judge(run(own), (asked(1.0),), PAIRED, own).status is Status.UNJUDGED


def test_a_metric_that_only_the_reference_has_is_missing() -> None:
    own = questions([1.0] * 900)
    outcome = replace(run(own), tasks=(TaskOutcome(TASK, (), 900, 900),))
    verdict = judge(outcome, (asked(),), PAIRED, own, against(own))
    assert verdict.status is Status.UNJUDGED
    assert "not measured" in verdict.reason


@pytest.mark.parametrize("rule", [NOT_WORSE, PAIRED, NUMERICS])
@pytest.mark.parametrize(
    "counts",
    [
        {"truncated": 1},
        {"refused": 1},
        {"unmatched": 1},
        {"degenerate": (Degenerate(Degeneracy.NOT_A_NUMBER, 1, TASK, 3),)},
        {"degenerate": (Degenerate(Degeneracy.REPEATING, 10, TASK, 3),)},
    ],
)
def test_doubts_never_pass_under_any_rule(rule: VerdictConfig, counts: dict[str, Any]) -> None:
    own = [replace(each, token_ids=(1,), logprobs=(-0.1,), margins=(2.0,)) for each in
           questions([1.0, 0.0] * 450)]  # fmt: skip
    lenient = replace(rule, cluster="none")
    assert judge(run(own), (asked(0.5),), lenient, own, against(own)).status is Status.PASSED
    doubtful = judge(run(own, **counts), (asked(0.5),), lenient, own, against(own))
    assert doubtful.status is Status.INCONCLUSIVE


@pytest.mark.parametrize("rule", [PAIRED, NUMERICS])
def test_a_reference_that_could_not_ask_everything_excuses_no_drop(rule: VerdictConfig) -> None:
    own = [replace(each, token_ids=(1,), logprobs=(-0.1,), margins=(2.0,)) for each in
           questions([1.0, 0.0] * 450)]  # fmt: skip
    theirs = against(own, run(own, refused=7))
    verdict = judge(run(own), (asked(),), rule, own, theirs)
    assert verdict.status is Status.INCONCLUSIVE
    assert (
        "in the reference run, 7 prompts exceeded max_model_len and were not sent" in verdict.reason
    )


@pytest.mark.parametrize("rule", [PAIRED, NUMERICS])
@pytest.mark.parametrize(
    ("theirs", "ours", "status"),
    [
        (90, 90, Status.PASSED),
        (90, 99, Status.PASSED),
        (90, 100, Status.INCONCLUSIVE),
        (0, 10, Status.INCONCLUSIVE),
        (90, 0, Status.PASSED),
    ],
)
def test_a_model_that_repeats_itself_does_so_in_the_reference_run_too(
    rule: VerdictConfig, theirs: int, ours: int, status: Status
) -> None:
    own = [replace(each, token_ids=(1,), logprobs=(-0.1,), margins=(2.0,)) for each in
           questions([1.0, 0.0] * 450)]  # fmt: skip

    def repeating(answers: int) -> Outcome:
        return run(own, degenerate=(Degenerate(Degeneracy.REPEATING, answers, TASK, 3),))

    verdict = judge(repeating(ours), (asked(),), rule, own, against(own, repeating(theirs)))
    assert verdict.status is status
    assert ("in the reference run" in verdict.reason) is (status is Status.INCONCLUSIVE)


@pytest.mark.parametrize("rule", [PAIRED, NUMERICS])
def test_a_reference_with_odd_numbers_excuses_no_drop(rule: VerdictConfig) -> None:
    own = [replace(each, token_ids=(1,), logprobs=(-0.1,), margins=(2.0,)) for each in
           questions([1.0, 0.0] * 450)]  # fmt: skip
    theirs = run(own, degenerate=(Degenerate(Degeneracy.NOT_A_NUMBER, 2, TASK, 3),))
    verdict = judge(run(own), (asked(),), rule, own, against(own, theirs))
    assert verdict.status is Status.INCONCLUSIVE
    assert "in the reference run, 2 answers have a log-probability" in verdict.reason


# Clusters


def subjects(scores: Sequence[float], count: int) -> list[Sample]:
    """The scores dealt to that many subtasks, one block after the other."""
    size = len(scores) // count
    return [
        sample
        for place in range(count)
        for sample in questions(scores[place * size : (place + 1) * size], task=f"{TASK}_{place}")
    ]


def test_subjects_widen_the_bound_and_are_named() -> None:
    before, after = flipped(12, 0, 600)
    own = subjects(after, 6)
    verdict = judge(
        run(own), (asked(),), replace(PAIRED, margin=0.05), own, against(subjects(before, 6))
    )
    metric = only(verdict)
    assert metric.clusters == 6
    assert "clustered by subject (6 clusters)" in beneath(metric)
    assert metric.p == pytest.approx(mcnemar_drop(12, 0))
    assert metric.upper is not None and metric.upper > upper_drop(12, 0, 600)
    without = replace(PAIRED, cluster="none")
    metric = only(judge(run(own), (asked(),), without, own, against(subjects(before, 6))))
    assert (metric.clusters, metric.upper) == (None, pytest.approx(upper_drop(12, 0, 600)))


def test_samples_of_one_passage_share_their_fate() -> None:
    before, after = flipped(12, 0, 600)
    rule = replace(PAIRED, cluster="passage")

    def read(scores: Sequence[float]) -> list[Sample]:
        return [replace(sample, cluster=f"c{sample.doc_id // 12}") for sample in questions(scores)]

    own = read(after)
    # The reference run was not asked for the field.
    metric = only(judge(run(own), (asked(),), rule, own, against(questions(before))))
    assert metric.p is not None and metric.p > ALPHA > mcnemar_drop(12, 0)
    assert "clustered by passage (50 clusters)" in beneath(metric)
    bare = questions(after)
    metric = only(judge(run(bare), (asked(),), rule, bare, against(questions(before))))
    assert metric.status is Status.INCONCLUSIVE
    assert "verdict.cluster=passage: some documents have no such field" in metric.reason


# not_worse


def not_worse(right: int, n: int, baseline: float, margin: float = 0.05) -> MetricVerdict:
    own = questions([1.0] * right + [0.0] * (n - right))
    rule = replace(NOT_WORSE, margin=margin)
    return only(judge(run(own), (asked(baseline),), rule, own))


def test_not_worse_by_the_exact_binomial() -> None:
    from scipy.stats import binomtest

    fine = not_worse(459, 900, 0.51)
    assert fine.status is Status.PASSED
    assert fine.upper == pytest.approx(0.51 - lower_bound(459, 900))
    low = not_worse(420, 900, 0.51)
    assert low.status is Status.FAILED
    assert low.p == pytest.approx(binomtest(420, 900, 0.51, alternative="less").pvalue)
    assert not_worse(445, 900, 0.51, margin=0.02).status is Status.INCONCLUSIVE
    assert not_worse(600, 900, 0.51).status is Status.PASSED, "better is not worse"


def test_not_worse_where_lower_is_better() -> None:
    own = questions([1.0] * 500 + [0.0] * 400)
    found = only(judge(run(own, higher=False), (asked(0.51),), NOT_WORSE, own))
    assert found.status is Status.FAILED
    assert found.drop == pytest.approx(500 / 900 - 0.51)


def test_not_worse_of_scores_in_between() -> None:
    scores = [0.4, 0.5, 0.6] * 100
    own = questions(scores)
    found = only(judge(run(own), (asked(0.5),), NOT_WORSE, own))
    assert (found.status, found.test) == (Status.PASSED, drops.T_TEST)
    assert only(judge(run(own), (asked(0.55),), NOT_WORSE, own)).status is Status.FAILED


def test_a_corpus_metric_is_judged_by_lm_evals_own_error() -> None:
    """Perplexity is no mean of scores; a standard error it has all the same."""
    own = [replace(sample, scores={}) for sample in questions([0.0] * 50)]
    result = MetricResult(TASK, "acc", "none", 12.0, 0.5, 50, False, False)
    outcome = Outcome(State.COMPLETED, tasks=(TaskOutcome(TASK, (result,), 50, 50),))
    rule = replace(NOT_WORSE, margin=1.0)
    assert only(judge(outcome, (asked(12.5),), rule, own)).status is Status.PASSED
    found = only(judge(outcome, (asked(10.0),), rule, own))
    assert (found.status, found.test) == (Status.FAILED, drops.NORMAL)
    bare = replace(result, stderr=None)
    outcome = Outcome(State.COMPLETED, tasks=(TaskOutcome(TASK, (bare,), 50, 50),))
    found = only(judge(outcome, (asked(12.5),), rule, own))
    assert found.status is Status.INCONCLUSIVE
    assert "no standard error" in found.reason


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_number_fails_under_not_worse(value: float) -> None:
    own = questions([1.0] * 100)
    outcome = run(own)
    result = replace(outcome.tasks[0].metrics[0], value=value)
    outcome = replace(outcome, tasks=(replace(outcome.tasks[0], metrics=(result,)),))
    assert only(judge(outcome, (asked(0.5),), NOT_WORSE, own)).status is Status.FAILED


# Several metrics


def two_filters(
    strict: tuple[int, int], loose: tuple[int, int]
) -> tuple[Outcome, list[Sample], Against]:
    """Two metrics of 900 samples by their flips, under filters of their own."""
    sides: dict[str, list[Sample]] = {"before": [], "after": []}
    for name, (worse, better) in (("strict", strict), ("loose", loose)):
        before, after = flipped(worse, better, 900)
        sides["before"] += questions(before, filter_name=name)
        sides["after"] += questions(after, filter_name=name)

    def outcome(samples: Sequence[Sample]) -> Outcome:
        results = []
        for name in ("strict", "loose"):
            scores = [each.scores["acc"] for each in samples if each.filter == name]
            value = sum(scores) / len(scores)
            results.append(MetricResult(TASK, "acc", name, value, 0.01, 900, True, True))
        return Outcome(State.COMPLETED, tasks=(TaskOutcome(TASK, tuple(results), 900, 900),))

    theirs = Against(USED, outcome(sides["before"]), sides["before"], {TASK: None})
    return outcome(sides["after"]), sides["after"], theirs


def test_holm_corrects_what_can_fail_and_is_said() -> None:
    # One-sided p of 20 to 8 is 0.018: a finding alone, and with a second one a finding no more.
    outcome, own, theirs = two_filters((19, 8), (5, 5))
    verdict = judge(outcome, (asked(),), PAIRED, own, theirs)
    strict = verdict.metrics[0]
    assert strict.p == pytest.approx(mcnemar_drop(19, 8))
    assert strict.p_adjusted == pytest.approx(2 * strict.p)
    assert strict.p < ALPHA < strict.p_adjusted
    assert strict.status is Status.INCONCLUSIVE
    assert "after Holm correction)" in beneath(strict)
    alone = judge(outcome, (asked(),), replace(PAIRED, correction="none"), own, theirs)
    assert alone.metrics[0].status is Status.FAILED
    assert alone.metrics[0].detectable is not None and strict.detectable is not None
    assert alone.metrics[0].detectable < strict.detectable


def test_one_metric_by_a_rule_of_its_own() -> None:
    outcome, own, theirs = two_filters((5, 5), (60, 5))
    overrides = {TASK: {"acc": {"loose": MetricRuleConfig(rule="isclose", rtol=0.5)}}}
    rule = replace(PAIRED, metrics=overrides)
    evaluation = replace(asked(), baselines=exact({"acc": {"loose": 0.5}}))
    verdict = judge(outcome, (evaluation,), rule, own, theirs)
    assert [metric.rule for metric in verdict.metrics] == ["paired", "isclose"]
    assert verdict.status is Status.PASSED
    wider = {TASK: {"acc": {"loose": MetricRuleConfig(margin=0.2)}}}
    verdict = judge(outcome, (asked(),), replace(PAIRED, metrics=wider), own, theirs)
    assert [metric.margin for metric in verdict.metrics] == [0.02, 0.2]
    assert verdict.status is Status.PASSED


@pytest.mark.parametrize("rule", ["paired", "not_worse", "isclose"])
def test_a_metric_that_is_named_is_never_passed_over(rule: str) -> None:
    own = questions([1.0, 0.0] * 450)
    overrides = {TASK: {"accc": {"none": MetricRuleConfig(rule=rule)}}}
    config = replace(PAIRED, metrics=overrides)
    verdict = judge(run(own), (asked(),), config, own, against(own))
    assert verdict.status is Status.INCONCLUSIVE
    assert "accc,none: listed in verdict.metrics, but " in verdict.reason


# numerics


def spoken(
    tokens: Sequence[int], logprobs: Sequence[float], margins: Sequence[float], n: int = 60
) -> list[Sample]:
    return [
        replace(sample, token_ids=tuple(tokens), logprobs=tuple(logprobs), margins=tuple(margins))
        for sample in questions([1.0] * n)
    ]


def shifted(reference: Sequence[Sample], own: Sequence[Sample], **limits: float) -> MetricVerdict:
    rule = replace(NUMERICS, numerics=replace(LIMITS, **limits))
    return only(judge(run(own), (asked(),), rule, own, against(reference)))


def test_log_probabilities_that_moved_little_pass_and_that_moved_far_fail() -> None:
    base = spoken((5, 7), (-0.5, -0.1), (1.0, 3.0))
    near = spoken((5, 7), (-0.501, -0.102), (1.0, 3.0))
    found = shifted(base, near)
    assert (found.status, found.n, found.metric) == (Status.PASSED, 120, "logprob_shift")
    assert found.value == pytest.approx(0.002)
    far = shifted(base, spoken((5, 7), (-0.9, -0.1), (1.0, 3.0)))
    assert far.status is Status.FAILED
    assert "p99 0.4 exceeds 0.2" in far.reason
    assert shifted(base, spoken((5, 7), (-0.9, -0.1), (1.0, 3.0)), p99=1.0, median=1.0).status is (
        Status.PASSED
    )


def test_answers_are_compared_up_to_where_they_part_and_the_leads_count_there() -> None:
    base = spoken((5, 7, 9), (-0.5, -0.1, -0.2), (1.0, 3.0, 3.0))
    other = spoken((5, 8, 1), (-0.5, -0.4, -9.0), (1.0, 1.0, 1.0))
    found = shifted(base, other)
    assert found.n == 120, "one common token, and the place where they part"
    assert found.value == pytest.approx((3.0 + 1.0) / 2)
    assert found.status is Status.FAILED
    assert "60 of 60 answers differ, 0 of them at a near-tie" in found.evidence
    tie = shifted(
        spoken((5, 7), (-0.5, -0.7), (1.0, 0.02)), spoken((5, 8), (-0.5, -0.7), (1.0, 0.04))
    )
    assert tie.status is Status.FAILED and "median 0.015 exceeds 0.01" in tie.reason
    assert "60 of them at a near-tie" in tie.evidence


def test_long_answers_that_differ_at_their_start_fail_though_the_percentiles_are_small() -> None:
    length = 300
    equal = spoken((5,) * length, (-0.1,) * length, (5.0,) * length, n=100)
    first = [
        replace(each, token_ids=(6, *each.token_ids[1:])) if number < 50 else each
        for number, each in enumerate(equal)
    ]
    found = shifted(equal, first)
    assert (found.value, found.status) == (0.0, Status.FAILED)
    assert found.reason == "50 of 100 answers differ without a near-tie (50.0 %, limit 5.0 %)"
    assert shifted(equal, first, differing=0.5).status is Status.PASSED
    assert shifted(equal, [*first[:5], *equal[5:]]).status is Status.PASSED
    assert shifted(equal[:10], [*first[:1], *equal[1:10]]).status is Status.PASSED  # one answer
    ties = spoken((5,) * length, (-0.1,) * length, (0.1,) * length, n=100)
    turned = [replace(each, token_ids=(*each.token_ids[:-1], 6)) for each in ties]
    assert shifted(ties, turned).status is Status.PASSED


def test_choices_are_compared_by_their_likelihoods() -> None:
    def choosing(values: tuple[float, ...]) -> list[Sample]:
        tokens = (1,) * len(values)
        return [
            replace(sample, choice_logprobs=values, choice_tokens=tokens)
            for sample in questions([1.0] * 60)
        ]

    found = shifted(choosing((-1.0, -2.0)), choosing((-1.001, -2.0)))
    assert (found.status, found.n) == (Status.PASSED, 120)
    assert shifted(choosing((-1.0, -2.0)), choosing((-1.0, -3.0))).status is Status.FAILED
    assert shifted(choosing((-1.0, -2.0)), choosing((-1.0,))).status is Status.FAILED
    assert shifted(choosing((-1.0, -2.0)), choosing((-1.0, math.nan))).status is Status.FAILED


def test_the_shift_of_a_choice_is_held_to_the_limits_per_token() -> None:
    """A choice of 40 tokens moves by 0.3 nats: 0.0075 for each."""

    def choosing(value: float, *tokens: int) -> list[Sample]:
        return [
            replace(sample, choice_logprobs=(value, -90.0), choice_tokens=tokens)
            for sample in questions([1.0] * 60)
        ]

    found = shifted(choosing(-80.0, 40, 30), choosing(-80.3, 40, 30))
    assert (found.status, found.value) == (Status.PASSED, pytest.approx(0.0075))
    assert shifted(choosing(-80.0, 40, 30), choosing(-90.0, 40, 30)).status is Status.FAILED
    assert shifted(choosing(-80.0), choosing(-80.3, 40, 30)).status is Status.PASSED


def test_sums_over_an_unknown_number_of_tokens_can_pass_but_do_not_fail() -> None:
    def choosing(value: float, other: float = -9.0) -> list[Sample]:
        return [replace(sample, choice_logprobs=(value, other)) for sample in questions([1.0] * 60)]

    assert shifted(choosing(-8.0), choosing(-8.01)).status is Status.PASSED
    found = shifted(choosing(-8.0), choosing(-8.5))
    assert found.status is Status.INCONCLUSIVE
    assert "p99 0.5 exceeds 0.2, but these are sums over the tokens of a choice" in found.reason
    assert shifted(choosing(-8.0), choosing(math.nan)).status is Status.FAILED
    assert shifted(choosing(-8.0), choosing(-12.0)).status is Status.FAILED  # another choice


def test_choices_that_turned_are_counted() -> None:
    def choosing(first: float, second: float) -> list[Sample]:
        return [replace(each, choice_logprobs=(first, second)) for each in questions([1.0] * 60)]

    found = shifted(choosing(-1.0, -1.1), choosing(-1.1, -1.0), median=9.0, p99=9.0)
    assert "60 of 60 answers differ, 60 of them at a near-tie" in found.evidence
    found = shifted(choosing(-1.0, -2.0), choosing(-4.0, -2.0), median=9.0, p99=9.0)
    assert "60 of 60 answers differ, 0 of them at a near-tie" in found.evidence


@pytest.mark.parametrize("choices", [False, True])
def test_other_prompt_tokens_are_no_question_of_arithmetic(choices: bool) -> None:
    """They are left out and named; what is left out is no reason to pass."""
    base = spoken((5, 7), (-0.5, -0.1), (1.0, 3.0), n=120)
    far = spoken((5, 7), (-4.5, -0.1), (1.0, 3.0), n=120)
    if choices:
        base = [replace(each, choice_logprobs=(-1.0, -2.0)) for each in base]
        far = [replace(each, choice_logprobs=(-4.0, -2.0)) for each in far]
    base = [replace(each, prompt_tokens=(20,)) for each in base]
    some = [replace(far[n], prompt_tokens=(21,)) if n < 60 else each for n, each in enumerate(base)]
    found = shifted(base, some)
    assert (found.status, found.n) == (Status.INCONCLUSIVE, 120)
    assert found.reason.startswith("60 of 120 prompts have a different number of tokens")
    every = [replace(each, prompt_tokens=(21,)) for each in far]
    found = shifted(base, every)
    assert found.status is Status.INCONCLUSIVE
    assert "120 of 120 prompts have a different number of tokens" in found.reason
    rest = [replace(each, prompt_tokens=(20 + n // 110,)) for n, each in enumerate(far)]
    assert shifted(base, rest).status is Status.FAILED


def test_too_little_to_compare_is_inconclusive() -> None:
    base = questions([1.0] * 900)
    found = shifted(base, base)
    assert (found.status, found.value) == (Status.INCONCLUSIVE, None)
    assert "too few log-probabilities: 0, at least 100 needed" in found.reason
    lost = spoken((5, 7), (-0.5, -0.1), (1.0, 3.0))
    found = shifted(lost, lost[:50])
    assert found.status is Status.INCONCLUSIVE
    assert "10 only in the reference run" in found.reason


def test_a_limited_run_that_lost_samples_is_missed_by_no_rule() -> None:
    base = spoken((5, 7), (-0.5, -0.1), (1.0, 3.0), n=400)
    own, outcome = base[:200], run(base[:300])
    for rule, counted in ((NUMERICS, "evaluated"), (PAIRED, "scored")):
        verdict = judge(outcome, (asked(limit=300.0),), rule, own, against(base))
        assert verdict.status is Status.INCONCLUSIVE
        assert f"200 samples were saved, but 300 were {counted}" in verdict.reason


def in_part(own: list[Sample], whole: int | None) -> Outcome:
    outcome = run(own)
    (task,) = outcome.tasks
    metrics = tuple(replace(each, whole=whole) for each in task.metrics)
    return replace(outcome, tasks=(replace(task, metrics=metrics, whole=whole or task.expected),))


def test_not_worse_neither_passes_a_part_nor_overlooks_a_drop_in_it() -> None:
    right, wrong = questions([1.0] * 80 + [0.0] * 20), questions([1.0] * 20 + [0.0] * 80)
    limited = asked(0.7, limit=100.0)
    rule = VerdictConfig(rule="not_worse", margin=0.1)
    assert judge(in_part(right, None), (limited,), rule, right).status is Status.PASSED
    part = judge(in_part(right, 600), (limited,), rule, right)
    assert part.status is Status.INCONCLUSIVE
    assert (
        "100 of 600 samples (task.limit), but the baseline was measured on all samples"
        in part.reason
    )
    allowed = replace(rule, allow_partial=True)
    assert judge(in_part(right, 600), (limited,), allowed, right).status is Status.PASSED
    assert judge(in_part(wrong, 600), (limited,), rule, wrong).status is Status.FAILED


def test_paired_holds_a_part_against_the_same_part_of_the_reference() -> None:
    before = questions([1.0] * 400 + [0.0] * 200)
    own = before[:500]
    verdict = judge(in_part(own, 600), (asked(limit=500.0),), PAIRED, own, against(before))
    assert verdict.status is Status.PASSED
    assert "500 of 600 samples (task.limit)" in verdict.reason


def test_a_question_counts_once_whatever_its_filters() -> None:
    base = spoken((5, 7), (-0.5, -0.1), (1.0, 3.0))
    both = base + [replace(sample, filter="strict") for sample in base]
    own = only(
        judge(run(both, evaluated=60, expected=60), (asked(),), NUMERICS, both, against(both))
    )
    assert own.n == 120


def test_numerics_and_a_rule_for_one_metric_together() -> None:
    base = spoken((5, 7), (-0.5, -0.1), (1.0, 3.0), n=900)
    rule = replace(NUMERICS, metrics={TASK: {"acc": {"none": MetricRuleConfig(rule="paired")}}})
    verdict = judge(run(base), (asked(),), rule, base, against(base))
    assert [metric.rule for metric in verdict.metrics] == ["paired", "numerics"]
    assert verdict.status is Status.PASSED
