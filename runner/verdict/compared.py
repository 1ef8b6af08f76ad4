"""What the metrics of a task are compared with: baselines, or samples of a reference run."""

from __future__ import annotations

from collections.abc import Sequence

from runner.baseline import Baseline
from runner.config.verdict import BASELINE_RULES, VerdictConfig
from runner.evidence.pairing import Pairing, pair, pooled
from runner.evidence.samples import Sample, asked_for
from runner.plan import Evaluation
from runner.stats.means import mean
from runner.verdict.rule import Against, settings


def wanted(
    evaluation: Evaluation, config: VerdictConfig, against: Against | None
) -> dict[str, dict[str, Baseline]]:
    """Return the judged metrics and their values in the baselines or the reference run.

    Of several reference runs, the mean values. A metric that one of them lacks has no scores to
    pair, so it is INCONCLUSIVE.
    """
    runs = against.runs if against is not None else ()
    values: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for task in run.outcome.tasks:
            for each in task.metrics:
                if each.task == task.task == evaluation.task:
                    values.setdefault((each.metric, each.filter), []).append(each.value)
    measured = [(metric, name, Baseline(mean(own))) for (metric, name), own in values.items()]
    listed = [
        (metric, name, known)
        for metric, filters in evaluation.baselines.items()
        for name, known in filters.items()
    ]
    found: dict[str, dict[str, Baseline]] = {}
    for metric, name, value in measured:
        if settings(config, evaluation.task, metric, name).rule == "paired":
            found.setdefault(metric, {})[name] = value
    for metric, name, value in listed:
        if settings(config, evaluation.task, metric, name).rule in BASELINE_RULES:
            found.setdefault(metric, {})[name] = value
    return found


def pairing(
    evaluation: Evaluation, own: Sequence[Sample], against: Against | None
) -> tuple[Pairing | None, bool]:
    """Pair the samples, reference first; also return whether this run has a lower limit.

    With several reference runs, a pair's first sample has the answers of all of them.
    """
    if against is None:
        return None, False
    found = [(run.used.name, *_pairing(evaluation, own, run)) for run in against.runs]
    limited = any(lower for *_, lower in found)
    if len(found) == 1:
        return found[0][1], limited
    return pooled([(name, each) for name, each, _ in found]), limited


def _pairing(
    evaluation: Evaluation, own: Sequence[Sample], against: Against
) -> tuple[Pairing, bool]:
    """The same for one reference run, whatever is pooled with it."""
    theirs = [
        sample
        for task in against.outcome.tasks
        if task.task == evaluation.task
        for sample in asked_for(task, against.samples)
    ]
    asked = against.limits.get(evaluation.task)
    limited = evaluation.limit is not None and evaluation.limit != asked
    return pair(theirs, own), limited


def of_filter(pairing: Pairing | None, name: str) -> Pairing | None:
    """Return the part of a pairing that belongs to one filter."""
    if pairing is None:
        return None
    return Pairing(
        tuple((first, second) for first, second in pairing.pairs if second.filter == name),
        tuple(
            each
            for each in pairing.unpaired
            if name in {side.filter for side in (each.first, each.second) if side is not None}
        ),
    )
