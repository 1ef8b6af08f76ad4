"""Metrics of a task from lm-eval's results, one for each sample of the questions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from runner.evidence.unparsable import unparsable
from runner.outcome import MetricResult, Repeated
from runner.stats.means import standard_error
from runner.stats.repeated import components, majority, pass_at, sizes

if TYPE_CHECKING:
    from runner.lm.sample_table import SampleRow
    from runner.lm.tasks import LoadedTask


def metric_results(
    loaded: LoadedTask, results: Sequence[Any], rows: list[SampleRow], limited: bool
) -> tuple[MetricResult, ...]:
    """The task's metrics, its own first, then those of its subtasks.

    `results` are lm-eval's, one for each sample; `rows` are the samples of all of them. `limited`
    says that not all questions of the task were asked.
    """
    found = [_of_pass(each, rows, limited) for each in results]
    metrics = found[0]
    if len(found) > 1:
        leaves = _leaves_of(results[0]["group_subtasks"])
        metrics = [
            _together(each, [found_in[place] for found_in in found], set(leaves(each.task)), rows)
            for place, each in enumerate(metrics)
        ]
    return tuple(sorted(metrics, key=lambda each: each.task != loaded.evaluation.task))


def _together(
    first: MetricResult, all_samples: list[MetricResult], leaves: set[str], rows: list[SampleRow]
) -> MetricResult:
    """One metric over all samples: its mean, with the error of the questions' means."""
    value = fmean(each.value for each in all_samples)
    behind: dict[tuple[str, int], list[SampleRow]] = {}
    for row in rows:
        if row.filter == first.filter and row.task in leaves and first.metric in row.scores:
            behind.setdefault(row.sample, []).append(row)
    questions = list(behind.values())
    scores = [[row.scores[first.metric] for row in own] for own in questions]
    if not scores or any(len(own) != len(all_samples) for own in scores):
        return replace(first, value=value, stderr=None, binary=False)
    means = [fmean(own) for own in scores]
    stderr = None
    if math.isclose(fmean(means), value, rel_tol=1e-9, abs_tol=1e-9):
        stderr = standard_error(means)
    return replace(
        first,
        value=value,
        stderr=stderr,
        binary=False,
        repeated=_repeated(questions, scores, all(each.binary for each in all_samples)),
    )


def _repeated(
    questions: list[list[SampleRow]], scores: list[list[float]], binary: bool
) -> Repeated:
    samples = len(scores[0])
    within, between = components(scores)
    if not binary:
        return Repeated(samples, within, between)
    right = [round(sum(own)) for own in scores]
    return Repeated(
        samples,
        within,
        between,
        passed={k: fmean(pass_at(c, samples, k) for c in right) for k in sizes(samples)},
        majority=_majority(questions, scores),
        always=fmean(c == samples for c in right),
        never=fmean(c == 0 for c in right),
    )


def _majority(questions: list[list[SampleRow]], scores: list[list[float]]) -> float | None:
    """Share of questions whose most frequent answer is right.

    Answers are what the metric's filter found in the responses, compared as text. Those without one
    do not vote if others have one. None if the filter takes whole responses for answers.
    """
    if all(row.filtered in row.responses for own in questions for row in own):
        return None
    votes = []
    for own, each in zip(questions, scores, strict=True):
        voting = [place for place, row in enumerate(own) if not unparsable(row)]
        voting = voting or list(range(len(own)))
        votes.append(majority([own[n].filtered for n in voting], [each[n] for n in voting]))
    return fmean(votes)


def _of_pass(results: Any, rows: list[SampleRow], limited: bool) -> list[MetricResult]:
    leaves = _leaves_of(results["group_subtasks"])
    scores = _scores(results["samples"])
    return [
        MetricResult(
            task=name,
            metric=metric,
            filter=filter_name,
            value=float(value),
            stderr=_number(values.get(f"{metric}_stderr,{filter_name}")),
            n=sum(int(results["n-samples"][leaf]["effective"]) for leaf in leaves(name)),
            higher_is_better=(results["higher_is_better"].get(name) or {}).get(metric),
            binary=_is_share(
                value,
                [x for leaf in leaves(name) for x in scores.get((leaf, metric, filter_name), [])],
            ),
            luck=_luck(rows, set(leaves(name)), metric, filter_name),
            whole=sum(int(results["n-samples"][leaf]["original"]) for leaf in leaves(name))
            if limited
            else None,
        )
        for name, values in results["results"].items()
        for metric, filter_name, value in _reported(values)
    ]


def _reported(values: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """(metric, filter, value) of each `metric,filter` key, without aliases and standard errors."""
    reported = []
    for key, value in values.items():
        metric, comma, filter_name = key.partition(",")
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float):
            reported.append((metric, filter_name, value))
    return reported


def _number(value: Any) -> float | None:
    """The value as a number; None for lm-eval's 'N/A', where a metric has no standard error."""
    return float(value) if isinstance(value, int | float) else None


def _leaves_of(children: dict[str, list[str]]) -> Callable[[str], list[str]]:
    """A function that returns the tasks below a name: itself, or the tasks of its subgroups."""

    def leaves(name: str) -> list[str]:
        below = children.get(name)
        return [leaf for child in below for leaf in leaves(child)] if below else [name]

    return leaves


def _scores(samples: dict[str, list[dict[str, Any]]]) -> dict[tuple[str, str, str], list[Any]]:
    """The scores of all samples, by task, metric and filter."""
    scores: dict[tuple[str, str, str], list[Any]] = {}
    for name, rows in samples.items():
        for row in rows:
            for metric in row["metrics"]:
                scores.setdefault((name, metric, row["filter"]), []).append(row[metric])
    return scores


def _is_share(value: float, scores: list[Any]) -> bool:
    """Whether the value is the plain mean of scores of 0 and 1, that is, a binomial proportion."""
    if not scores or any(not isinstance(x, int | float) or x not in (0, 1) for x in scores):
        return False
    return math.isclose(value, sum(scores) / len(scores), abs_tol=1e-9)


def _luck(rows: list[SampleRow], leaves: set[str], metric: str, filter_name: str) -> float:
    """The share of the mean score that comes from guesses."""
    behind = [
        row
        for row in rows
        if row.filter == filter_name and row.task in leaves and metric in row.scores
    ]
    return sum(row.scores[metric] for row in behind if row.guessed) / max(len(behind), 1)
