"""Questions that were asked several times: one sample each, whose scores are means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, variance

from runner.evidence.samples import Sample


def by_question(samples: Sequence[Sample]) -> list[Sample]:
    """One sample per question and filter, in the order of their first answers.

    A question is the unit of evidence, whatever the number of its answers: these are correlated.
    """
    asked: dict[tuple[str, str, int, str], list[Sample]] = {}
    for each in samples:
        question = (each.evaluation, each.task, each.doc_id, each.filter)
        asked.setdefault(question, []).append(each)
    if len(asked) == len(samples):
        return list(samples)
    return [merged(rows) for rows in asked.values()]


def merged(rows: Sequence[Sample]) -> Sample:
    """The answers to one question as one sample, with the mean of each score that all have."""
    if len(rows) == 1:
        return rows[0]
    metrics = [name for name in rows[0].scores if all(name in each.scores for each in rows)]
    return replace(
        rows[0],
        scores={name: fmean(each.scores[name] for each in rows) for name in metrics},
        guessed=any(each.guessed for each in rows),
        rows=tuple(rows),
    )


def answers(question: Sample) -> int:
    """Number of answers to the question."""
    return len(question.rows) or 1


def sampling_variance(question: Sample, metric: str) -> float:
    """Variance of the question's mean score that comes from sampling its answers."""
    if len(question.rows) < 2:
        return 0.0
    return variance(each.scores[metric] for each in question.rows) / len(question.rows)
