"""Scores of a metric's samples, or the reason why they cannot be judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.verdict import NO_FIELD
from runner.evidence.samples import Sample
from runner.language import gettext, ngettext
from runner.stats import means
from runner.verdict.rule import THE_RUN, Case


@dataclass(frozen=True)
class Scores:
    """The mean score of each question, and the scores of its answers."""

    values: tuple[float, ...]
    answers: tuple[tuple[float, ...], ...]

    @property
    def repeated(self) -> bool:
        """Return whether some question has several answers."""
        return any(len(own) > 1 for own in self.answers)

    @property
    def binary(self) -> bool:
        return all(value in (0, 1) for value in self.values)

    @property
    def value(self) -> float:
        return math.fsum(self.values) / len(self.values)


class Unusable(Exception):
    """The samples do not represent the metric; the message gives the reason."""


class NoMean(Unusable):
    """The metric is not a mean of scores, for example the perplexity of a corpus."""


def direction(case: Case) -> int:
    """Return 1 if a smaller value is worse, -1 if a larger one is.

    Raises:
        Unusable: if neither lm-eval nor the user specifies it.
    """
    higher = case.settings.higher_is_better
    if higher is None:
        higher = case.result.higher_is_better
    if higher is None:
        key = f"{case.task.task}.{case.result.metric}.{case.result.filter}"
        raise Unusable(
            gettext(
                "lm-eval does not specify whether higher is better; set "
                "verdict.metrics.{key}.higher_is_better=true or false",
                key=key,
            )
        )
    return 1 if higher else -1


def scores(samples: Sequence[Sample], case: Case, whose: str) -> Scores:
    """Return the metric's scores; every sample must have one.

    Raises:
        Unusable: if a score is missing (NoMean: if all are) or not finite.
    """
    metric = case.result.metric
    if not samples:
        raise Unusable(gettext("no samples in {run}", run=whose))
    missing = sum(metric not in sample.scores for sample in samples)
    if missing:
        problem = gettext(
            "{count} of {samples} samples in {run} have no score",
            count=missing,
            samples=len(samples),
            run=whose,
        )
        raise NoMean(problem) if missing == len(samples) else Unusable(problem)
    values = tuple(sample.scores[metric] for sample in samples)
    bad = sum(not math.isfinite(value) for value in values)
    if bad:
        raise Unusable(
            gettext("{count} scores in {run} are not finite numbers", count=bad, run=whose)
        )
    answers = tuple(
        tuple(each.scores[metric] for each in sample.rows or (sample,)) for sample in samples
    )
    return Scores(values, answers)


def own_scores(case: Case) -> Scores:
    """Return this run's scores, checked against the value reported by lm-eval.

    Raises:
        Unusable: also if their number or (NoMean) their mean differs from the reported one.
    """
    found = scores(case.samples, case, gettext(THE_RUN))
    if len(found.values) != case.result.n:
        raise Unusable(
            gettext(
                "{count} samples were saved, but {scored} were scored",
                count=len(found.values),
                scored=case.result.n,
            )
        )
    expected = case.result.repeated.samples if case.result.repeated is not None else 1
    lacking = sum(len(own) != expected for own in found.answers)
    if lacking:
        raise Unusable(
            gettext(
                "{count} questions have more or fewer than {expected} saved answers",
                count=lacking,
                expected=expected,
            )
        )
    if not math.isclose(found.value, case.result.value, rel_tol=1e-6, abs_tol=1e-6):
        raise NoMean(
            gettext(
                "the value {value:g} is not the mean of its sample scores ({mean:g})",
                value=case.result.value,
                mean=found.value,
            )
        )
    return found


def mean_of_subtasks(samples: Sequence[Sample], metric: str) -> float | None:
    """Return the plain mean of the subtasks' mean scores; None if a sample has no score."""
    subtasks: dict[str, list[float]] = {}
    for sample in samples:
        if metric not in sample.scores:
            return None
        subtasks.setdefault(sample.task, []).append(sample.scores[metric])
    return means.mean([means.mean(own) for own in subtasks.values()]) if subtasks else None


def clusters(samples: Sequence[Sample], case: Case) -> tuple[str, ...]:
    """Return the cluster of each sample of this run.

    Raises:
        Unusable: if a document lacks the field in `verdict.cluster`.
    """
    kind = case.settings.cluster
    found = tuple(sample.task if kind in NO_FIELD else sample.cluster for sample in samples)
    if "" in found:
        raise Unusable(
            gettext("verdict.cluster={field}: some documents have no such field", field=kind)
        )
    return found


def cluster_words(case: Case, groups: Sequence[str]) -> str:
    """Describe the clustering of errors for the report; empty without clusters."""
    count, kind = len(set(groups)), case.settings.cluster
    if not clustered(case, groups):
        return ""
    return ngettext(
        "clustered by {field} ({count} cluster)",
        "clustered by {field} ({count} clusters)",
        count,
        field=kind,
    )


def clustered(case: Case, groups: Sequence[str]) -> bool:
    """Return whether clusters apply; a task without subtasks has no subjects."""
    kind = case.settings.cluster
    return kind not in NO_FIELD or (kind == "subject" and len(set(groups)) > 1)
