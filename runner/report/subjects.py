"""Metrics of a task by subject, worst first."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from runner.evidence.samples import Sample, stopped
from runner.evidence.unparsable import unparsable
from runner.language import gettext
from runner.outcome import TaskOutcome
from runner.present.formats import interval
from runner.present.strips import Scale, Strip, scale
from runner.verdict import MetricVerdict, Verdict, boundary


@dataclass(frozen=True)
class Subject:
    """One subtask; `short` is its name without the common prefix.

    It has `n` questions with `scored` samples in total, of which `unparsable` could not be parsed
    and `stopped` ended at the token limit. `tokens` is the mean length of its answers.
    """

    name: str
    short: str
    value: float
    interval: tuple[float, float] | None
    n: int
    scored: int
    unparsable: int
    stopped: int
    tokens: float
    strip: Strip


@dataclass(frozen=True)
class Subjects:
    """All subtasks of a task, worst first, on one scale.

    The mark is the task's value, the band the task's tolerated range, if it has one.
    """

    metric: str
    tolerated: boundary.Range | None
    prefix: str
    scale: Scale
    rows: tuple[Subject, ...]


def told(row: Subject, subjects: Subjects) -> str:
    """Return the alternative text of a subject's strip."""
    said = [f"{row.value:.3f}"]
    if row.interval:
        said.append(gettext("95 % interval {interval}", interval=interval(row.interval, 3)))
    if subjects.tolerated:
        held = boundary.said(subjects.tolerated)
        said.append(gettext("whole task: {tolerated}", tolerated=held))
    return gettext(", ").join(said)


def main_metric(task: str, verdict: Verdict) -> MetricVerdict | None:
    """Return the first judged metric of a task or subtask, or its first if none is judged."""
    own = [each for each in verdict.metrics if each.task == task and each.value is not None]
    return next((each for each in own if each.baseline is not None), own[0] if own else None)


def ascending(task: TaskOutcome, metric: str, filter_name: str) -> bool:
    """Return whether a higher value is better."""
    return not any(
        each.higher_is_better is False
        for each in task.metrics
        if (each.metric, each.filter) == (metric, filter_name)
    )


def by_subject(task: TaskOutcome, verdict: Verdict, samples: Sequence[Sample]) -> Subjects | None:
    """Return the subjects; None if fewer than two subtasks have the main metric."""
    metric = main_metric(task.task, verdict)
    if metric is None or metric.value is None:
        return None
    asked: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.filter == metric.filter:
            asked[sample.task].append(sample)
    found = [
        each
        for each in verdict.metrics
        if each.task in asked
        and each.task != task.task
        and (each.metric, each.filter) == (metric.metric, metric.filter)
        and each.value is not None
    ]
    if len(found) < 2:
        return None
    higher_is_better = ascending(task, metric.metric, metric.filter)
    found.sort(key=lambda each: each.value or 0.0, reverse=not higher_is_better)
    ends = [end for each in found for end in (*(each.interval or ()), each.value or 0.0)]
    shares = all(0 <= end <= 1 for end in ends)
    held = [end for end in metric.tolerated or () if end is not None]
    line = Scale(0.0, 1.0) if shares else scale([*ends, metric.value, *held])
    prefix = _prefix([each.task for each in found])
    rows = tuple(_subject(each, prefix, asked[each.task], line, metric) for each in found)
    return Subjects(metric.metric, metric.tolerated, prefix, line, rows)


def _prefix(names: list[str]) -> str:
    """`mmmu_val_`: the common prefix, cut at a word boundary."""
    first, last = min(names), max(names)
    pairs = enumerate(zip(first, last, strict=False))
    alike = next((place for place, (one, other) in pairs if one != other), len(first))
    return re.sub(r"[^_\W]*$", "", first[:alike])


def _subject(
    metric: MetricVerdict, prefix: str, samples: list[Sample], line: Scale, whole: MetricVerdict
) -> Subject:
    value = metric.value or 0.0
    return Subject(
        name=metric.task,
        short=metric.task.removeprefix(prefix),
        value=value,
        interval=metric.interval,
        n=metric.n,
        scored=len(samples),
        unparsable=sum(map(unparsable, samples)),
        stopped=sum(map(stopped, samples)),
        tokens=sum(len(each.token_ids) for each in samples)
        / max(sum(len(each.finish_reasons) for each in samples), 1),
        strip=line.strip(value, metric.interval, whole.value, whole.tolerated),
    )
