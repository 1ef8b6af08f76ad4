"""The rule to the letter, what the numbers can bear, and doubt that never passes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runner.config.verdict import VerdictConfig
from runner.outcome import Departure, MetricResult, Outcome, State, TaskOutcome
from runner.plan import Evaluation
from runner.status import EXIT_STATUS, Status
from runner.verdict import Verdict, confidence_interval, isclose, judge
from tests.baselines import exact

RULE = VerdictConfig()
Baselines = dict[str, dict[str, float]]


def evaluation(baselines: Baselines, task: str = "mmmu_val") -> Evaluation:
    return Evaluation(
        task=task,
        num_fewshot=None,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        limit=None,
        batch_size="auto",
        baselines=exact(baselines),
    )


def measured(
    value: float,
    n: int = 900,
    task: str = "mmmu_val",
    metric: str = "acc",
    filter_name: str = "none",
    stderr: float | None = 0.016,
    binary: bool = False,
) -> MetricResult:
    return MetricResult(task, metric, filter_name, value, stderr, n, True, binary)


def evaluated(*metrics: MetricResult, task: str = "mmmu_val", **counts: Any) -> TaskOutcome:
    return TaskOutcome(task, metrics, **{"expected": 900, "evaluated": 900, **counts})


def completed(*tasks: TaskOutcome) -> Outcome:
    return Outcome(State.COMPLETED, tasks=tasks)


def judged(value: float, baseline: float, rtol: float = 0.05, **counts: Any) -> Verdict:
    """One metric of one task, judged."""
    outcome = completed(evaluated(measured(value), **counts))
    return judge(outcome, (evaluation({"acc": {"none": baseline}}),), VerdictConfig(rtol=rtol))


# The rule


@given(
    baseline=st.floats(0, 1),
    value=st.floats(0, 1),
    rtol=st.sampled_from([0.0, 0.005, 0.01, 0.05, 0.5]),
)
@example(baseline=0.51, value=438 / 900, rtol=0.05)
@example(baseline=0.0, value=0.0, rtol=0.0)
@settings(deadline=None, max_examples=150)
def test_the_rule_is_numpys_own(baseline: float, value: float, rtol: float) -> None:
    expected = bool(np.isclose(baseline, round(value, 4), rtol=rtol))
    assert (judged(value, baseline, rtol).status is Status.PASSED) is expected


@given(baseline=st.floats(1, 1e6), factor=st.floats(0.8, 1.2))
@settings(deadline=None, max_examples=100)
def test_the_rule_near_its_edge_on_any_scale(baseline: float, factor: float) -> None:
    value = baseline * factor
    expected = bool(np.isclose(baseline, round(value, 4), rtol=0.05))
    assert (judged(value, baseline).status is Status.PASSED) is expected


@pytest.mark.parametrize("baseline", [0.8933, -2.5, 31.0])
@pytest.mark.parametrize("rtol", [0.05, 0.3])
def test_the_tolerated_range_is_what_the_rule_accepts(baseline: float, rtol: float) -> None:
    low, high = isclose.tolerated(baseline, rtol)
    assert low is not None and high is not None
    for edge, outwards in ((low, -1e-3), (high, 1e-3)):
        assert np.isclose(baseline, edge - outwards, rtol=rtol)
        assert not np.isclose(baseline, edge + outwards, rtol=rtol)
    assert isclose.tolerated(0.5, 2.0)[1] is None


def test_the_tolerance_scales_with_the_measured_value() -> None:
    """numpy is not symmetric: 5 % of 1.0 spans the gap to 0.951, 5 % of 0.951 does not."""
    assert bool(np.isclose(0.951, 1.0, rtol=0.05))
    assert not bool(np.isclose(1.0, 0.951, rtol=0.05))
    assert judged(1.0, 0.951).status is Status.PASSED
    assert judged(0.951, 1.0).status is Status.FAILED


def test_the_rule_accepts_438_to_483_of_900() -> None:
    accepted = [n for n in range(901) if judged(n / 900, 0.51).status is Status.PASSED]
    assert (accepted[0], accepted[-1], len(accepted)) == (438, 483, 46)


def test_a_value_is_rounded_to_four_digits_before_it_is_judged() -> None:
    assert judged(0.95236, 1.0).status is Status.PASSED  # rounds up to 0.9524
    assert not bool(np.isclose(1.0, 0.95236, rtol=0.05))


@pytest.mark.parametrize(
    ("value", "said"), [(0.40, "below 0.51"), (0.60, "above 0.51"), (0.51, "within 5 % of 0.51")]
)
def test_the_reason_names_side_and_baseline(value: float, said: str) -> None:
    (metric,) = judged(value, 0.51).metrics
    assert said in metric.reason


@pytest.mark.parametrize(("rtol", "said"), [(0.005, "0.5 %"), (0.025, "2.5 %"), (0.05, "5 %")])
@pytest.mark.parametrize("value", [0.51, 0.2])
def test_the_reason_names_the_tolerance_as_it_is(rtol: float, said: str, value: float) -> None:
    (metric,) = judged(value, 0.51, rtol).metrics
    assert f" {said} " in metric.reason


def test_the_rule_is_named_with_its_tolerance() -> None:
    assert judged(0.51, 0.51, 0.03).rule == "np.isclose(baseline, round(value, 4), rtol=0.03)"


def test_the_difference_is_value_minus_baseline() -> None:
    (metric,) = judged(0.5, 0.51).metrics
    assert metric.difference == pytest.approx(-0.01)
    assert (metric.value, metric.baseline, metric.n) == (0.5, 0.51, 900)


# A part of the samples


def in_part(
    value: float,
    limit: float | None = 120.0,
    of_baseline: float | None = None,
    asked: int = 120,
    config: VerdictConfig = RULE,
    binary: bool = True,
    stderr: float | None = 0.03,
) -> Verdict:
    """The verdict on `asked` of 600 samples against a baseline of 0.9 measured on `of_baseline`."""
    whole = 600 if asked < 600 else None
    result = replace(measured(value, n=asked, stderr=stderr, binary=binary), whole=whole)
    task = evaluated(result, expected=asked, evaluated=asked, whole=600)
    baselines = {"acc": {"none": 0.9}}
    limits = {"limit": limit, "baseline_limit": of_baseline}
    return judge(completed(task), (replace(evaluation(baselines), **limits),), config)


def test_a_part_of_the_samples_does_not_pass_by_a_baseline_of_all() -> None:
    verdict = in_part(0.9)
    assert (verdict.status, verdict.exit_status) == (Status.INCONCLUSIVE, 4)
    assert (
        "120 of 600 samples (task.limit), but the baseline was measured on all samples"
        in verdict.reason
    )
    assert "verdict.allow_partial=true" in verdict.reason
    (metric,) = verdict.metrics
    assert metric.count == "120 of 600"


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_share_is_a_part_as_well(share: float) -> None:
    asked = round(600 * share)
    assert in_part(0.9, limit=share, asked=asked).status is Status.INCONCLUSIVE


def test_it_passes_where_the_user_allows_it_and_says_so() -> None:
    verdict = in_part(0.9, config=VerdictConfig(allow_partial=True))
    assert (verdict.status, verdict.exit_status) == (Status.PASSED, 0)
    assert verdict.reason.endswith("mmmu_val: 120 of 600 samples (task.limit)")
    assert verdict.rule.endswith(", verdict.allow_partial=true")


def test_it_passes_by_a_baseline_of_that_limit() -> None:
    verdict = in_part(0.9, of_baseline=120.0)
    assert verdict.status is Status.PASSED
    assert "120 of 600 samples (task.limit)" in verdict.reason


@pytest.mark.parametrize(
    ("limit", "asked", "said"),
    [
        (20.0, 20, "20 of 600 samples (task.limit), but the baseline was measured with limit=120"),
        (
            1000.0,
            600,
            "600 of 600 samples (task.limit), but the baseline was measured with limit=120",
        ),
        (0.2, 120, "120 of 600 samples (task.limit), but the baseline was measured with limit=120"),
    ],
)
def test_it_does_not_pass_by_a_baseline_of_another_limit(
    limit: float, asked: int, said: str
) -> None:
    verdict = in_part(0.9, limit=limit, of_baseline=120.0, asked=asked)
    assert verdict.status is Status.INCONCLUSIVE
    assert said in verdict.reason


@pytest.mark.parametrize("limit", [600.0, 1000.0])
def test_a_limit_that_leaves_nothing_out_is_none(limit: float) -> None:
    verdict = in_part(0.9, limit=limit, asked=600)
    assert verdict.status is Status.PASSED
    assert "task.limit" not in verdict.reason


@pytest.mark.parametrize("value", [102 / 120, 1.0])
def test_a_difference_that_may_be_chance_does_not_fail_a_part(value: float) -> None:
    """102 of 120 or fewer are drawn in one of 20 cases at a share of 0.9."""
    assert in_part(value, asked=120 if value < 1 else 20).status is Status.INCONCLUSIVE
    assert in_part(value, limit=None, asked=600).status is Status.FAILED
    assert in_part(value, of_baseline=120.0).status is Status.FAILED


@pytest.mark.parametrize(
    ("value", "asked"), [(98 / 120, 120), (120 / 120, 120), (0.0, 2), (math.nan, 120)]
)
def test_a_difference_that_chance_does_not_explain_fails_a_part(value: float, asked: int) -> None:
    verdict = in_part(value, asked=asked)
    assert (verdict.status, verdict.exit_status) == (Status.FAILED, 3)
    assert f"{asked} of 600 samples (task.limit)" in verdict.reason


def test_a_single_wrong_answer_is_chance() -> None:
    """One in ten is wrong at a share of 0.9."""
    assert in_part(0.0, asked=1).status is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    ("stderr", "status"),
    [
        (0.03, Status.FAILED),
        (0.08, Status.INCONCLUSIVE),
        (0.0, Status.INCONCLUSIVE),
        (math.nan, Status.INCONCLUSIVE),
        (None, Status.INCONCLUSIVE),
    ],
)
def test_scores_between_0_and_1_need_a_standard_error_to_fail(
    stderr: float | None, status: Status
) -> None:
    assert in_part(0.8, binary=False, stderr=stderr).status is status


def test_metrics_with_one_reason_share_it() -> None:
    found = [measured(0.9, filter_name=name, n=120) for name in ("strict", "flexible")]
    task = evaluated(*found, expected=120, evaluated=120, whole=600)
    asked = replace(evaluation({"acc": {"strict": 0.9, "flexible": 0.9}}), limit=120.0)
    reason = judge(completed(task), (asked,), RULE).reason
    assert reason.startswith("mmmu_val acc,strict, mmmu_val acc,flexible: 120 of 600 samples")
    assert reason.count("allow_partial") == 1


# What the numbers can bear


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (1, 10, 0.0179, 0.4042),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_against_published_values(
    right: int, n: int, low: float, high: float
) -> None:
    bounds = confidence_interval(measured(right / n, n=n, binary=True))
    assert bounds == pytest.approx((low, high), abs=5.1e-5)


@given(n=st.integers(1, 2000), share=st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_wilsons_interval_is_scipys(n: int, share: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    right = round(share * n)
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    bounds = confidence_interval(measured(right / n, n=n, binary=True))
    assert bounds == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(n=st.integers(1, 10**6), share=st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_wilsons_interval_holds_the_value_and_stays_a_share(n: int, share: float) -> None:
    value = round(share * n) / n
    bounds = confidence_interval(measured(value, n=n, binary=True))
    assert bounds is not None
    assert 0 <= bounds[0] <= value + 1e-12
    assert value - 1e-12 <= bounds[1] <= 1


def test_other_scores_get_the_normal_interval() -> None:
    bounds = confidence_interval(measured(12.0, stderr=0.5))
    assert bounds == pytest.approx((12 - 1.959964 * 0.5, 12 + 1.959964 * 0.5), abs=1e-6)


@pytest.mark.parametrize("stderr", [None, math.nan, math.inf])
def test_no_standard_error_no_interval(stderr: float | None) -> None:
    assert confidence_interval(measured(12.0, stderr=stderr)) is None


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_number_no_interval(value: float, binary: bool) -> None:
    assert confidence_interval(measured(value, binary=binary)) is None


def test_the_interval_stands_beside_the_verdict() -> None:
    result = measured(0.5, n=10, binary=True)
    task = evaluated(result, expected=10, evaluated=10)
    (metric,) = judge(completed(task), (evaluation({}),), RULE).metrics
    assert metric.interval == confidence_interval(result)
    assert metric.stderr == 0.016


# What cannot be judged is never PASSED


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_never_passes(value: float) -> None:
    verdict = judged(value, 0.51)
    assert verdict.status is Status.FAILED
    assert str(value) in verdict.reason


def test_two_infinities_are_not_the_same_accuracy() -> None:
    assert judged(math.inf, math.inf).status is not Status.PASSED


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"evaluated": 800}, "800 of 900 samples evaluated"),
        ({"evaluated": 901}, "901 of 900 samples evaluated"),
        ({"evaluated": 0}, "0 of 900 samples evaluated"),
        ({"evaluated": 0, "expected": 0}, "0 of 0 samples evaluated"),
        ({"truncated": 1}, "1 prompts were left-truncated to max_model_len"),
        ({"refused": 3}, "3 prompts exceeded max_model_len and were not sent"),
        (
            {"departures": (Departure("answer in examples", "they hold it", 7, "mmlu", 3),)},
            "in 7 of 900 samples, they hold it (for example document 3 of mmlu)",
        ),
    ],
)
def test_a_doubtful_score_that_looks_right_is_inconclusive(
    counts: dict[str, Any], said: str
) -> None:
    verdict = judged(0.51, 0.51, **counts)
    assert verdict.status is Status.INCONCLUSIVE
    assert said in verdict.reason
    assert verdict.exit_status == 4


def test_without_a_baseline_the_doubt_is_said_all_the_same() -> None:
    left_out = Departure("placeholder without image", "not all are shown", 7, "mmlu", 3)
    outcome = completed(evaluated(measured(0.51), departures=(left_out,)))
    verdict = judge(outcome, (evaluation({}),), VerdictConfig())
    assert verdict.status is Status.UNJUDGED
    assert (
        "; mmmu_val: in 7 of 900 samples, not all are shown (for example document 3 of mmlu)"
        in verdict.reason
    )


def test_a_doubtful_score_that_looks_wrong_has_failed_and_says_both() -> None:
    verdict = judged(0.1, 0.51, evaluated=800)
    assert verdict.status is Status.FAILED
    assert "below 0.51" in verdict.reason
    assert "800 of 900" in verdict.reason


@given(
    expected=st.integers(0, 5),
    evaluated_count=st.integers(0, 5),
    truncated=st.integers(0, 2),
    refused=st.integers(0, 2),
    value=st.sampled_from([0.51, math.nan, math.inf]),
    state=st.sampled_from(State),
    require_baseline=st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_any_doubt_prevents_passed(
    expected: int,
    evaluated_count: int,
    truncated: int,
    refused: int,
    value: float,
    state: State,
    require_baseline: bool,
) -> None:
    doubt = (
        expected != evaluated_count
        or expected == 0
        or truncated > 0
        or refused > 0
        or not math.isfinite(value)
        or state is not State.COMPLETED
    )
    assume(doubt)
    task = evaluated(
        measured(value, n=evaluated_count),
        expected=expected,
        evaluated=evaluated_count,
        truncated=truncated,
        refused=refused,
    )
    verdict = judge(
        Outcome(state, "why", (task,)),
        (evaluation({"acc": {"none": 0.51}}),),
        VerdictConfig(require_baseline=require_baseline),
    )
    assert verdict.status is not Status.PASSED
    assert verdict.exit_status != 0


def test_a_metric_of_no_samples_never_passes() -> None:
    outcome = completed(evaluated(measured(0.51, n=0)))
    verdict = judge(outcome, (evaluation({"acc": {"none": 0.51}}),), RULE)
    assert verdict.status is Status.INCONCLUSIVE


def test_a_metric_of_fewer_samples_than_the_task_never_passes() -> None:
    outcome = completed(evaluated(measured(0.51, n=899)))
    verdict = judge(outcome, (evaluation({"acc": {"none": 0.51}}),), RULE)
    assert verdict.status is Status.INCONCLUSIVE


@pytest.mark.parametrize("require_baseline", [True, False])
@pytest.mark.parametrize(
    "tasks",
    [
        (),
        (evaluated(),),
        (evaluated(measured(0.51, metric="acc_norm")),),
        (evaluated(measured(0.51, filter_name="strict-match")),),
        (evaluated(measured(0.51, task="mmmu_val_art")),),
        (evaluated(measured(0.51), task="another"),),
    ],
    ids=["no task", "no metric", "other metric", "other filter", "subtask", "other task"],
)
def test_a_baseline_without_its_measurement_is_no_verdict(
    tasks: tuple[TaskOutcome, ...], require_baseline: bool
) -> None:
    rule = VerdictConfig(require_baseline=require_baseline)
    verdict = judge(completed(*tasks), (evaluation({"acc": {"none": 0.51}}),), rule)
    assert verdict.status is Status.UNJUDGED
    assert verdict.exit_status == 4
    assert "not measured" in verdict.reason
    (missing,) = [metric for metric in verdict.metrics if metric.baseline is not None]
    assert (missing.value, missing.n, missing.status) == (None, 0, Status.UNJUDGED)


def test_a_missing_metric_beside_one_that_passed_is_no_verdict() -> None:
    baselines = {"acc": {"none": 0.51}, "acc_norm": {"none": 0.5}}
    verdict = judge(completed(evaluated(measured(0.51))), (evaluation(baselines),), RULE)
    assert verdict.status is Status.UNJUDGED
    assert verdict.exit_status == 4


def test_a_subtask_is_not_judged_by_its_groups_baseline() -> None:
    outcome = completed(evaluated(measured(0.51), measured(0.1, n=30, task="mmmu_val_art")))
    verdict = judge(outcome, (evaluation({"acc": {"none": 0.51}}),), RULE)
    assert verdict.status is Status.PASSED
    group, part = verdict.metrics
    assert (group.status, part.status) == (Status.PASSED, Status.UNJUDGED)
    assert part.baseline is None


# The word on a run


def run_of(*values: float | None) -> Verdict:
    """A run of several metrics with baseline 0.5; None was not measured."""
    names = [f"m{number}" for number in range(len(values))]
    task = evaluated(
        *(measured(v, metric=m) for m, v in zip(names, values, strict=True) if v is not None)
    )
    return judge(completed(task), (evaluation({name: {"none": 0.5} for name in names}),), RULE)


def test_all_passed() -> None:
    verdict = run_of(0.5, 0.51, 0.49)
    assert verdict.status is Status.PASSED
    assert verdict.exit_status == 0
    assert verdict.reason == "3 of 3 judged metrics passed"


def test_one_failure_fails_the_run_and_only_its_own_metric() -> None:
    verdict = run_of(0.5, 0.1, 0.5)
    assert verdict.status is Status.FAILED
    assert [metric.status for metric in verdict.metrics] == [
        Status.PASSED,
        Status.FAILED,
        Status.PASSED,
    ]
    assert "m1" in verdict.reason
    assert "m0" not in verdict.reason


def test_failed_outweighs_what_was_not_measured() -> None:
    assert run_of(0.1, None, 0.5).status is Status.FAILED


def test_failed_outweighs_inconclusive_and_that_unjudged_and_that_passed() -> None:
    sound = evaluated(measured(0.5, task="a"), task="a")
    doubtful = evaluated(measured(0.5, task="b"), task="b", truncated=1)
    wrong = evaluated(measured(0.1, task="c"), task="c")
    evaluations = {name: evaluation({"acc": {"none": 0.5}}, name) for name in "abcd"}

    def status(*tasks: TaskOutcome, asked: str) -> Status:
        wanted = tuple(evaluations[name] for name in asked)
        return judge(completed(*tasks), wanted, RULE).status

    assert status(sound, asked="a") is Status.PASSED
    assert status(sound, asked="ad") is Status.UNJUDGED
    assert status(sound, doubtful, asked="adb") is Status.INCONCLUSIVE
    assert status(sound, doubtful, wrong, asked="adbc") is Status.FAILED


@pytest.mark.parametrize(("require_baseline", "exit_status"), [(True, 4), (False, 0)])
def test_nothing_to_judge(require_baseline: bool, exit_status: int) -> None:
    rule = VerdictConfig(require_baseline=require_baseline)
    verdict = judge(completed(evaluated(measured(0.51))), (evaluation({}),), rule)
    assert verdict.status is Status.UNJUDGED
    assert verdict.exit_status == exit_status
    assert "model.baselines" in verdict.reason
    (metric,) = verdict.metrics
    assert metric.reason == "no baseline"


@pytest.mark.parametrize(
    ("status", "exit_status"),
    [
        (Status.PASSED, 0),
        (Status.REFUSED, 1),
        (Status.ERROR, 2),
        (Status.FAILED, 3),
        (Status.INCONCLUSIVE, 4),
        (Status.UNJUDGED, 4),
        (Status.INTERRUPTED, 130),
    ],
)
def test_exit_statuses(status: Status, exit_status: int) -> None:
    assert EXIT_STATUS[status] == exit_status


def test_every_status_has_an_exit_status() -> None:
    assert set(EXIT_STATUS) == set(Status)


@pytest.mark.parametrize(
    ("state", "exit_status"), [(State.REFUSED, 1), (State.ERROR, 2), (State.INTERRUPTED, 130)]
)
@pytest.mark.parametrize("value", [0.51, 0.1])
def test_a_run_that_did_not_finish_is_what_it_is_and_keeps_its_metrics(
    state: State, exit_status: int, value: float
) -> None:
    outcome = Outcome(state, "the worker died", (evaluated(measured(value)),))
    verdict = judge(outcome, (evaluation({"acc": {"none": 0.51}}),), RULE)
    assert verdict.status.value == state.value
    assert verdict.reason == "the worker died"
    assert verdict.exit_status == exit_status
    assert verdict.metrics[0].value == value


@pytest.mark.parametrize("state", [State.REFUSED, State.ERROR, State.INTERRUPTED])
def test_a_run_that_did_not_finish_is_not_excused_by_a_missing_baseline(state: State) -> None:
    rule = VerdictConfig(require_baseline=False)
    verdict = judge(Outcome(state, "why"), (evaluation({}),), rule)
    assert verdict.exit_status != 0


def test_judging_does_not_change_what_it_was_given() -> None:
    baselines: Baselines = {"acc": {"none": 0.51}}
    asked = evaluation(baselines)
    outcome = completed(evaluated(measured(0.51)))
    before = replace(outcome)
    first = judge(outcome, (asked,), RULE)
    assert judge(outcome, (asked,), RULE) == first
    assert baselines == {"acc": {"none": 0.51}}
    assert outcome == before


def test_samples_without_an_engine_record_never_pass() -> None:
    """Whether their prompts were cut or refused is only known from that record."""
    task = replace(evaluated(measured(0.51)), unmatched=3)
    verdict = judge(completed(task), (evaluation({"acc": {"none": 0.51}}),), RULE)
    assert verdict.status is Status.INCONCLUSIVE
    assert "3 samples have no record" in verdict.reason
