"""From a metric's samples to what can be judged: scores in one direction, or why there are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.verdict import NO_FIELD
from runner.evidence.samples import Sample
from runner.verdict.rule import Case


@dataclass(frozen=True)
class Scores:
    """A score a sample."""

    values: tuple[float, ...]

    @property
    def binary(self) -> bool:
        return all(value in (0, 1) for value in self.values)

    @property
    def value(self) -> float:
        return math.fsum(self.values) / len(self.values)


class Unusable(Exception):
    """The samples do not stand for the metric; the message says why."""


class NoMean(Unusable):
    """The metric is no mean of scores, as the perplexity of a corpus is none."""


def direction(case: Case) -> int:
    """1 where a smaller value is worse, -1 where a larger one is.

    Raises:
        Unusable: if neither lm-eval nor the user says.
    """
    higher = case.settings.higher_is_better
    if higher is None:
        higher = case.result.higher_is_better
    if higher is None:
        key = f"{case.task.task}.{case.result.metric}.{case.result.filter}"
        raise Unusable(
            "lm-eval does not say whether higher is better; set "
            f"verdict.metrics.{key}.higher_is_better=true or false"
        )
    return 1 if higher else -1


def scores(samples: Sequence[Sample], case: Case, whose: str) -> Scores:
    """The metric's scores; every sample must have one.

    Raises:
        Unusable: if a score is missing (NoMean: if all are), or no number.
    """
    metric = case.result.metric
    if not samples:
        raise Unusable(f"no samples of {whose}")
    missing = sum(metric not in sample.scores for sample in samples)
    if missing:
        problem = f"{missing} of {len(samples)} samples of {whose} have no score"
        raise NoMean(problem) if missing == len(samples) else Unusable(problem)
    values = tuple(sample.scores[metric] for sample in samples)
    bad = sum(not math.isfinite(value) for value in values)
    if bad:
        raise Unusable(f"{bad} scores of {whose} are no numbers")
    return Scores(values)


def own_scores(case: Case) -> Scores:
    """This run's, checked against what lm-eval reported of them.

    Raises:
        Unusable: also if they are not as many, or (NoMean) their mean is not the value.
    """
    found = scores(case.samples, case, "this run")
    if len(found.values) != case.result.n:
        raise Unusable(f"{len(found.values)} samples are kept of {case.result.n} that were scored")
    if not math.isclose(found.value, case.result.value, rel_tol=1e-6, abs_tol=1e-6):
        raise NoMean(
            f"the value {case.result.value:g} is not the mean of its samples' scores, which is "
            f"{found.value:g}"
        )
    return found


def span(values: Sequence[float]) -> float:
    """The most that one sample can lose: 1 for scores of 0 to 1, else the widest span seen."""
    low, high = min(values), max(values)
    return 1.0 if low >= 0 and high <= 1 else high - low


def clusters(samples: Sequence[Sample], case: Case) -> tuple[str, ...]:
    """The group of each sample of this run: what it is worth is this run's to say.

    Raises:
        Unusable: if `verdict.cluster` names a field that a document lacks.
    """
    kind = case.settings.cluster
    found = tuple(sample.task if kind in NO_FIELD else sample.cluster for sample in samples)
    if "" in found:
        raise Unusable(f"verdict.cluster={kind}: not a field of every document")
    return found


def cluster_words(case: Case, groups: Sequence[str]) -> str:
    """What was made of groups, for the report; empty where there are none."""
    count, kind = len(set(groups)), case.settings.cluster
    if not clustered(case, groups):
        return ""
    return f"errors clustered by {count} {'subjects' if kind == 'subject' else kind}"


def clustered(case: Case, groups: Sequence[str]) -> bool:
    """Whether groups count: a task without subtasks is one subject, which is none."""
    kind = case.settings.cluster
    return kind not in NO_FIELD or (kind == "subject" and len(set(groups)) > 1)
