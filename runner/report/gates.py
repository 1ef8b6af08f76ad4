"""What the gates of a run can tell, for those that can tell little."""

from __future__ import annotations

from collections.abc import Iterator

from runner.language import gettext
from runner.outcome import MetricResult, Outcome, State
from runner.plan import Plan
from runner.verdict import Verdict, gates
from runner.verdict.doubts import other_samples


def weak_gates(plan: Plan, outcome: Outcome, verdict: Verdict) -> list[str]:
    """Return one sentence for each metric whose gate often passes a stack that lost 5 points.

    Also for one that often fails an unchanged stack. Only metrics whose samples score 0 or 1.
    """
    if outcome.state is not State.COMPLETED:
        return []
    return list(_weak_gates(plan, outcome, verdict))


def _weak_gates(plan: Plan, outcome: Outcome, verdict: Verdict) -> Iterator[str]:
    evaluations = {each.task: each for each in plan.evaluations}
    results = {
        (result.task, result.metric, result.filter): (task, result)
        for task in outcome.tasks
        for result in task.metrics
    }
    for metric in verdict.metrics:
        task, result = results.get((metric.task, metric.metric, metric.filter), (None, None))
        samples = _samples(result) if result is not None else None
        if task is None or result is None or samples is None or not result.higher_is_better:
            continue
        evaluation = evaluations.get(task.task)
        if evaluation is None or other_samples(evaluation, task):
            continue  # such a run can't pass, whatever its gate
        gate, baseline = gates.of_metric(metric, samples), metric.baseline
        if gate is None or baseline is None or not 0 <= baseline <= 1:
            continue
        if gates.weak(gate, baseline):
            said = gates.said(gate, baseline)
            yield gettext(
                "{metric}: this gate {said} (docs/gates.md).", metric=metric.name, said=said
            )


def _samples(result: MetricResult) -> int | None:
    """Number of answers to each question; None if not every answer scored 0 or 1."""
    if result.binary:
        return 1
    repeated = result.repeated
    return repeated.samples if repeated is not None and repeated.passed is not None else None
