"""Answers that are sampled at random: which ones are, and which were drawn with the same seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.evidence.samples import Sample
from runner.outcome import Outcome


def drawn_tasks(outcome: Outcome, samples: Sequence[Sample]) -> frozenset[str]:
    """Names of the tasks and subtasks whose answers are sampled at random.

    Within a group, the recorded seeds tell which subtasks they are. Older versions recorded none.
    """
    found: set[str] = set()
    for task in outcome.tasks:
        if task.drawn:
            names = {task.task, *(metric.task for metric in task.metrics)}
            seeded = {each.task for each in samples if each.seeds and each.task in names}
            found |= seeded or names
    return frozenset(found)


def answers_of(question: Sample) -> tuple[Sample, ...]:
    """All answers to a question, one sample each."""
    return question.rows or (question,)


def same_draws(first: Sample, second: Sample) -> Iterator[tuple[Sample, Sample]]:
    """Pairs of answers to a question that both runs drew with the same seeds."""
    others = {each.repeat: each for each in answers_of(second)}
    for one in answers_of(first):
        other = others.get(one.repeat)
        if other is not None and one.seeds and one.seeds == other.seeds:
            yield one, other
