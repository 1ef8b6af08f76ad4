"""Decides which answers of a task are right."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.evidence.samples import Sample
from runner.outcome import TaskOutcome
from runner.report.subjects import ascending, main_metric
from runner.verdict import MetricVerdict, Verdict


@dataclass(frozen=True)
class Scored:
    """A sample under the filter that decides, and its score in the metric that decides.

    `right` is None if the scores don't tell. A sample without scores has no metric.
    """

    sample: Sample
    metric: str
    score: float | None
    right: bool | None


def by_filter(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Group samples: one entry for each, with all of its filters."""
    found: dict[tuple[str, str, int, int], list[Sample]] = defaultdict(list)
    for each in samples:
        found[each.evaluation, each.task, each.doc_id, each.repeat].append(each)
    return list(found.values())


def scored(task: TaskOutcome, verdict: Verdict, asked: Sequence[Sequence[Sample]]) -> list[Scored]:
    """Score the samples of a task, each given under all of its filters.

    The task's main metric decides. Where a sample has none, that of its own subtask does: a tag has
    no metric of its own, and the subtasks of a group may have others.
    """
    known = {name: main_metric(name, verdict) for name in {each[0].task for each in asked}}
    wanted = main_metric(task.task, verdict)
    chosen = [_chosen(each, [wanted, known[each[0].task]]) for each in asked]
    scores: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for sample, metric in chosen:
        if metric:
            scores[sample.task, metric, sample.filter].append(sample.scores[metric])
    best = {
        (name, metric, filter_name): best_score(own, ascending(task, metric, filter_name))
        for (name, metric, filter_name), own in scores.items()
    }
    found = []
    for sample, metric in chosen:
        score = sample.scores.get(metric)
        top = best.get((sample.task, metric, sample.filter))
        found.append(Scored(sample, metric, score, None if None in (score, top) else score == top))
    return found


def best_score(scores: Iterable[float], higher_is_better: bool) -> float | None:
    """Return the score of a right answer; None if the scores don't tell.

    Between 0 and 1, it is 1, even if no answer has it. Otherwise, it is the best score, unless all
    are equal. Scores that are not finite are never the best.
    """
    finite = [score for score in scores if math.isfinite(score)]
    if higher_is_better and finite and all(0 <= score <= 1 for score in finite):
        return 1.0
    if len(set(finite)) < 2:
        return None
    return max(finite) if higher_is_better else min(finite)


def _chosen(
    filters: Sequence[Sample], metrics: Sequence[MetricVerdict | None]
) -> tuple[Sample, str]:
    """The sample under the filter of the first metric it has; its first score if it has none."""
    for metric in metrics:
        for sample in filters:
            if metric and sample.filter == metric.filter and metric.metric in sample.scores:
                return sample, metric.metric
    return filters[0], next(iter(filters[0].scores), "")
