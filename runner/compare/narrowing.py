"""Restricts B to the questions of A if their task.limit differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from runner.compare.sides import Side
from runner.evidence.pairing import Reason, pair
from runner.evidence.samples import Sample, asked_for
from runner.outcome import MetricResult, Outcome, TaskOutcome
from runner.plan import Evaluation
from runner.stats import means


@dataclass(frozen=True)
class Narrowed:
    """The part of B that a rule judges."""

    outcome: Outcome
    evaluations: tuple[Evaluation, ...]
    samples: Sequence[Sample]


def narrowed(
    first: Side, second: Side, before: Sequence[Sample], after: Sequence[Sample]
) -> Narrowed:
    """Return B without the questions excluded by A's limit; metrics are recomputed as means.

    A metric that is not a mean of scores keeps its value, and the rules reject it.
    """
    asked = {each.task: each.limit for each in first.plan.evaluations}
    evaluations, tasks, samples = [], [], list(after)
    outcomes = {task.task: task for task in second.outcome.tasks}
    for evaluation in second.plan.evaluations:
        limit, task = asked.get(evaluation.task), outcomes.get(evaluation.task)
        if limit is not None and limit != evaluation.limit and task is not None:
            own = asked_for(task, after)
            beyond = _beyond(asked_for(task, before), own)
            task = _without(task, own, beyond)
            samples = [each for each in samples if id(each) not in beyond]
            if beyond:  # else B has the lower limit, which the pairing accounts for
                evaluation = replace(evaluation, limit=limit)
        evaluations.append(evaluation)
        tasks += [task] if task is not None else []
    return Narrowed(replace(second.outcome, tasks=tuple(tasks)), tuple(evaluations), samples)


def _beyond(theirs: Sequence[Sample], ours: Sequence[Sample]) -> set[int]:
    """Identities of the samples that only B has."""
    unpaired = pair(theirs, ours).unpaired
    return {id(each.second) for each in unpaired if each.reason is Reason.ONLY_SECOND}


def _without(task: TaskOutcome, samples: Sequence[Sample], beyond: set[int]) -> TaskOutcome:
    """The task without the excluded samples; missing samples of B stay missing."""
    left = len({(each.task, each.doc_id) for each in samples if id(each) not in beyond})
    return replace(
        task,
        metrics=tuple(_metric(task, each, samples, beyond) for each in task.metrics),
        evaluated=left,
        expected=left + task.expected - task.evaluated,
    )


def _metric(
    task: TaskOutcome, metric: MetricResult, samples: Sequence[Sample], beyond: set[int]
) -> MetricResult:
    scored = [
        each
        for each in samples
        if metric.task in (task.task, each.task)
        and each.filter == metric.filter
        and metric.metric in each.scores
    ]
    every = [each.scores[metric.metric] for each in scored]
    left = [each.scores[metric.metric] for each in scored if id(each) not in beyond]
    if not left or not math.isclose(means.mean(every), metric.value, abs_tol=1e-6):
        return metric
    return replace(metric, value=means.mean(left), stderr=means.standard_error(left), n=len(left))
