"""Outcome + baselines → Verdict. Pure; fails closed: what cannot be judged is never PASSED."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist
from typing import ClassVar

from pydantic import ConfigDict

from runner.config import VerdictConfig
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.plan import Evaluation

# The original test rounds a measured value to four digits before it compares.
ROUNDED_DIGITS = 4


class Status(str, Enum):
    """The verdict on a metric or a run; REFUSED and ERROR are for runs alone."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNJUDGED = "UNJUDGED"
    ERROR = "ERROR"
    REFUSED = "REFUSED"
    INTERRUPTED = "INTERRUPTED"


EXIT_STATUS = {
    Status.PASSED: 0,
    Status.REFUSED: 1,
    Status.ERROR: 2,
    Status.FAILED: 3,
    Status.INCONCLUSIVE: 4,
    Status.UNJUDGED: 4,
    Status.INTERRUPTED: 130,
}


@dataclass(frozen=True)
class MetricVerdict:
    """One metric beside its baseline, and what the numbers can bear.

    `interval` is the two-sided 95 % confidence interval of the value; `difference` is value minus
    baseline, in the metric's own unit.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="strings")

    task: str
    metric: str
    filter: str
    status: Status
    value: float | None
    stderr: float | None
    interval: tuple[float, float] | None
    n: int
    baseline: float | None
    difference: float | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The word on a run."""

    status: Status
    reason: str
    rule: str
    metrics: tuple[MetricVerdict, ...]
    exit_status: int


def judge(outcome: Outcome, evaluations: tuple[Evaluation, ...], rule: VerdictConfig) -> Verdict:
    """Judge every metric that has a baseline; show the others."""
    name = f"np.isclose(baseline, round(value, {ROUNDED_DIGITS}), rtol={rule.rtol:g})"
    by_task = {task.task: task for task in outcome.tasks}
    metrics = tuple(
        metric
        for evaluation in evaluations
        for metric in _judge_task(evaluation, by_task.get(evaluation.task), rule)
    )
    if outcome.state is State.COMPLETED:
        status, reason = _whole(metrics)
    else:
        status, reason = Status(outcome.state.value), outcome.reason
    nothing_to_judge = status is Status.UNJUDGED and not _judged(metrics)
    excused = nothing_to_judge and not rule.require_baseline
    return Verdict(status, reason, name, metrics, 0 if excused else EXIT_STATUS[status])


def confidence_interval(result: MetricResult) -> tuple[float, float] | None:
    """Two-sided 95 % interval of the value, None where there is no standard error.

    Wilson's score interval for 0/1 scores (Wilson 1927: sound at 0 and 1, where the standard error
    vanishes), else value ± 1.96 standard errors.
    """
    z = NormalDist().inv_cdf(0.975)
    value, n = result.value, result.n
    if not math.isfinite(value):
        return None
    if result.binary and n > 0:
        center = (value + z * z / (2 * n)) / (1 + z * z / n)
        spread = value * (1 - value) / n + z * z / (4 * n * n)
        half = z * math.sqrt(max(spread, 0.0)) / (1 + z * z / n)
        return (max(center - half, 0.0), min(center + half, 1.0))
    if result.stderr is None or not math.isfinite(result.stderr):
        return None
    return (value - z * result.stderr, value + z * result.stderr)


def _judge_task(
    evaluation: Evaluation, task: TaskOutcome | None, rule: VerdictConfig
) -> list[MetricVerdict]:
    wanted = {
        (metric, filter_name): value
        for metric, filters in evaluation.baselines.items()
        for filter_name, value in filters.items()
    }
    results = task.metrics if task is not None else ()
    judged = []
    for result in results:
        own = result.task == evaluation.task
        baseline = wanted.pop((result.metric, result.filter), None) if own else None
        judged.append(_judge_metric(result, baseline, task, rule))
    for (metric, filter_name), baseline in wanted.items():
        judged.append(
            MetricVerdict(
                task=evaluation.task,
                metric=metric,
                filter=filter_name,
                status=Status.UNJUDGED,
                value=None,
                stderr=None,
                interval=None,
                n=0,
                baseline=baseline,
                difference=None,
                reason="has a baseline, but was not measured",
            )
        )
    return judged


def _judge_metric(
    result: MetricResult, baseline: float | None, task: TaskOutcome | None, rule: VerdictConfig
) -> MetricVerdict:
    status, reason = Status.UNJUDGED, "no baseline"
    if baseline is not None:
        status, reason = _isclose(result.value, baseline, rule.rtol)
        doubts = _doubts(task, result) if task is not None else ""
        if status is Status.PASSED and doubts:
            status, reason = Status.INCONCLUSIVE, doubts
        elif doubts:
            reason = f"{reason}; {doubts}"
    difference = None if baseline is None else result.value - baseline
    return MetricVerdict(
        task=result.task,
        metric=result.metric,
        filter=result.filter,
        status=status,
        value=result.value,
        stderr=result.stderr,
        interval=confidence_interval(result),
        n=result.n,
        baseline=baseline,
        difference=difference,
        reason=reason,
    )


def _isclose(value: float, baseline: float, rtol: float) -> tuple[Status, str]:
    """The original's rule to the letter; numpy scales rtol by its second argument, the measured."""
    import numpy as np

    if not math.isfinite(value):
        return Status.FAILED, f"the value is {value}"
    measured, percent = round(value, ROUNDED_DIGITS), f"{rtol * 100:g}%"
    if bool(np.isclose(baseline, measured, rtol=rtol)):
        return Status.PASSED, f"within {percent} of {baseline:g}"
    side = "below" if measured < baseline else "above"
    return Status.FAILED, f"more than {percent} {side} {baseline:g}"


def _doubts(task: TaskOutcome, result: MetricResult) -> str:
    """Why a score that looks right may still be of something else."""
    doubts = []
    counted = result.n if task.evaluated == task.expected else task.evaluated
    if counted != task.expected or task.expected == 0:
        doubts.append(f"{counted} of {task.expected} samples evaluated")
    if task.truncated:
        doubts.append(f"{task.truncated} prompts were cut to fit max_model_len")
    if task.refused:
        doubts.append(f"{task.refused} prompts were longer than max_model_len and not asked")
    if task.unmatched:
        # Whether these were cut or refused cannot be known, so they may not pass for whole.
        doubts.append(f"{task.unmatched} samples have no record of what the engine answered")
    return ", ".join(doubts)


def _whole(metrics: tuple[MetricVerdict, ...]) -> tuple[Status, str]:
    judged = _judged(metrics)
    for status in (Status.FAILED, Status.INCONCLUSIVE, Status.UNJUDGED):
        reasons = [_said(metric) for metric in judged if metric.status is status]
        if reasons:
            return status, "; ".join(reasons)
    if judged:
        return Status.PASSED, f"{len(judged)} of {len(judged)} judged metrics passed"
    return (
        Status.UNJUDGED,
        "nothing to judge: no baseline for what was measured (set "
        "model.baselines.<task>.<metric>.<filter>, or verdict.require_baseline=false)",
    )


def _judged(metrics: tuple[MetricVerdict, ...]) -> list[MetricVerdict]:
    return [metric for metric in metrics if metric.baseline is not None]


def _said(metric: MetricVerdict) -> str:
    return f"{metric.task} {metric.metric},{metric.filter}: {metric.reason}"
