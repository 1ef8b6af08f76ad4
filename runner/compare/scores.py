"""Scores of two runs on their shared questions, by task and subject."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from runner.compare.sides import Side
from runner.evidence.draws import answers_of
from runner.evidence.pairing import Pairing
from runner.evidence.samples import Sample
from runner.outcome import MetricResult, TaskOutcome
from runner.stats import flips, means
from runner.stats.drops import Drop, of_differences, of_flips, of_question_means
from runner.stats.limits import Limits
from runner.stats.several import holm
from runner.verdict import MetricVerdict, Verdict
from runner.verdict.limits import limits_of

Pair = tuple[Sample, Sample]


@dataclass(frozen=True)
class Scores:
    """Scores in one metric of a task or of a subtask (`subject`); `leading` as in Metric.

    `first` and `second` are the means over the pairs, `difference` is second minus first and
    `interval` its two-sided 95 % interval. `samples` is the largest number of answers to a question
    in each run; a question's score is the mean over its answers. `better` and `worse` are questions
    whose score moved, as the metric's direction has it; `p` is one-sided, for a drop, and
    `p_adjusted` Holm's for all that are tested together. `detectable` is the drop that would have
    been found with 80 % power. `reported` are the values that the runs themselves give, over all
    their samples. `share` says that scores lie between 0 and 1.
    """

    task: str
    metric: str
    filter: str
    subject: bool
    leading: bool
    n: int
    samples: tuple[int, int]
    first: float
    second: float
    reported: tuple[float | None, float | None]
    difference: float
    interval: tuple[float, float] | None
    better: int
    worse: int
    test: str
    p: float
    p_adjusted: float
    detectable: float
    share: bool
    higher_is_better: bool

    @property
    def name(self) -> str:
        return full_name(self.task, self.metric, self.filter)

    @property
    def repeated(self) -> bool:
        """Return whether some question was asked several times."""
        return self.samples != (1, 1)

    @property
    def drop(self) -> float:
        """Return how much worse the second run is."""
        return -self.difference if self.higher_is_better else self.difference


@dataclass(frozen=True)
class Metric:
    """A metric reported by both runs, the tasks of its samples, and its direction.

    `evaluation` is the name in task.names that it was measured for.
    The `leading` metric decides whether an answer of the task got better or worse.
    """

    task: str
    metric: str
    filter: str
    subject: bool
    leading: bool
    evaluation: str
    leaves: frozenset[str]
    higher_is_better: bool
    reported: tuple[float | None, float | None]

    @property
    def name(self) -> str:
        return full_name(self.task, self.metric, self.filter)

    def covers(self, sample: Sample) -> bool:
        """Return whether a sample is one of the metric's task, asked for the metric's group."""
        return sample.task in self.leaves and sample.evaluation in ("", self.evaluation)

    def moved(self, first: Sample, second: Sample) -> float | None:
        """Return the improvement of the score; None if the sample has no score in this metric."""
        if not self.covers(first) or first.filter != self.filter:
            return None
        before, after = first.scores.get(self.metric), second.scores.get(self.metric)
        if before is None or after is None or not math.isfinite(before + after):
            return None
        return after - before if self.higher_is_better else before - after


def full_name(task: str, metric: str, filter_name: str) -> str:
    """Return `canary acc` or `gsm8k exact_match (strict-match)`."""
    return f"{task} {metric}" + ("" if filter_name == "none" else f" ({filter_name})")


def metrics(first: Side, second: Side) -> tuple[Metric, ...]:
    """Return the metrics that both runs report, in the order of the first."""
    return tuple(_metrics(first, second))


def scores(shared: Sequence[Metric], pairing: Pairing, ruling: Verdict) -> tuple[Scores, ...]:
    """Return the scores of every metric that has pairs.

    Metrics tested by the verdict have its numbers; subjects are corrected together.
    """
    rows = [row for each in shared if (row := _scores(each, pairing)) is not None]
    adjusted = iter(holm([row.p for row in rows if row.subject]))
    rows = [replace(row, p_adjusted=next(adjusted)) if row.subject else row for row in rows]
    tested = {(each.task, each.metric, each.filter): each for each in ruling.metrics if each.test}
    return tuple(_as_judged(row, tested.get((row.task, row.metric, row.filter))) for row in rows)


def _as_judged(row: Scores, verdict: MetricVerdict | None) -> Scores:
    if verdict is None or verdict.p is None or verdict.p_adjusted is None:
        return row
    seen = row.detectable if verdict.detectable is None else verdict.detectable
    return replace(
        row, test=verdict.test, p=verdict.p, p_adjusted=verdict.p_adjusted, detectable=seen
    )


def _scores(metric: Metric, pairing: Pairing) -> Scores | None:
    moves = [(pair, metric.moved(*pair)) for pair in pairing.pairs]
    pairs = [pair for pair, move in moves if move is not None]
    better = [move for _, move in moves if move is not None]
    if not pairs:
        return None
    sides = ([first for first, _ in pairs], [second for _, second in pairs])
    name = metric.metric
    answers = [[[a.scores[name] for a in answers_of(each)] for each in side] for side in sides]
    before, after = ([each.scores[name] for each in side] for side in sides)
    limits = limits_of(name, (*before, *after))
    drop, interval = _judged(answers, before, after, 1 if metric.higher_is_better else -1, limits)
    if interval is not None and metric.higher_is_better:
        interval = (-interval[1], -interval[0])
    return Scores(
        task=metric.task,
        metric=metric.metric,
        filter=metric.filter,
        subject=metric.subject,
        leading=metric.leading,
        n=len(pairs),
        samples=(max(map(len, answers[0])), max(map(len, answers[1]))),
        first=means.mean(before),
        second=means.mean(after),
        reported=metric.reported,
        difference=means.mean(after) - means.mean(before),
        interval=interval,
        better=sum(move > 0 for move in better),
        worse=sum(move < 0 for move in better),
        test=drop.test,
        p=drop.p,
        p_adjusted=drop.p,
        detectable=drop.detectable(),
        share=all(0 <= score <= 1 for score in (*before, *after)),
        higher_is_better=metric.higher_is_better,
    )


def _judged(
    answers: Sequence[Sequence[Sequence[float]]],
    before: Sequence[float],
    after: Sequence[float],
    sign: int,
    limits: Limits,
) -> tuple[Drop, tuple[float, float] | None]:
    """The test for a drop, and the drop's two-sided interval.

    `answers` are the scores of all answers in both runs, `before` and `after` their means.
    """
    drops = [sign * (one - other) for one, other in zip(before, after, strict=True)]
    if any(len(own) > 1 for side in answers for own in side):
        drop = of_question_means(answers[0], answers[1], sign, limits.span)
        return drop, means.t_interval(drops)[1]
    if all(score in (0, 1) for score in (*before, *after)):
        worse, better = sum(each > 0 for each in drops), sum(each < 0 for each in drops)
        n = len(drops)
        return of_flips(worse, better, n), flips.matched_proportions(better, worse, n)[1]
    return of_differences(drops, limits.differences()), means.t_interval(drops)[1]


def _metrics(first: Side, second: Side) -> Iterator[Metric]:
    others = {task.task: task for task in second.outcome.tasks}
    for task in first.outcome.tasks:
        other = others.get(task.task)
        if other is None:
            continue
        known = {(each.task, each.metric, each.filter): each for each in other.metrics}
        shared = [
            (each, partner)
            for each in task.metrics
            if (partner := known.get((each.task, each.metric, each.filter)))
        ]
        leading = _leading(first, task, [each for each, _ in shared])
        for each, partner in shared:
            subject = each.task != task.task
            yield Metric(
                task=each.task,
                metric=each.metric,
                filter=each.filter,
                subject=subject,
                leading=not subject and each is leading,
                evaluation=task.task,
                leaves=frozenset((each.task,) if subject else {m.task for m in task.metrics}),
                higher_is_better=each.higher_is_better is not False,
                reported=(_finite(each.value), _finite(partner.value)),
            )


def _leading(side: Side, task: TaskOutcome, shared: list[MetricResult]) -> MetricResult | None:
    """The first that has a baseline, else the first that is reported."""
    own = [each for each in shared if each.task == task.task]
    baselines = {
        (metric, name)
        for evaluation in side.plan.evaluations
        if evaluation.task == task.task
        for metric, filters in evaluation.baselines.items()
        for name in filters
    }
    judged = [each for each in own if (each.metric, each.filter) in baselines]
    return next(iter([*judged, *own]), None)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
