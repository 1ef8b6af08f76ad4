"""Reads the scores of a point by question and metric from samples.parquet."""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from runner.evidence.samples import answer
from runner.outcome import TaskOutcome
from runner.sweep.summary import MetricId, SweptPoint

COLUMNS = ["task", "doc_id", "filter", "doc_hash", "responses", "choice_logprobs", "scores"]
# Files of older versions lack these.
LATER = ["repeat", "seeds"]


@dataclass(frozen=True)
class Answer:
    """The mean score of one question over its `samples`, and a digest of all answers to it.

    An answer is its text or its most likely choice. `draw` identifies the seeds of sampled answers:
    empty if the answers are not sampled, None if their seeds are unknown.
    """

    score: float
    digest: bytes
    samples: int = 1
    draw: bytes | None = b""

    def drawn_as(self, other: Answer) -> bool:
        """Return whether equal engines would give equal texts: greedily, or with equal seeds."""
        return self.draw is not None and self.draw == other.draw


# By question: its task, its number in it and the digest of its document. A number alone is not
# enough (another version of a data set has other questions there); the prompt is left out on
# purpose, for what a sweep changes may change it.
Answers = dict[str, Answer]


def read_answers(point: SweptPoint, metrics: tuple[MetricId, ...]) -> dict[MetricId, Answers]:
    """Read the answers of a point for each metric that has scores.

    The questions of a group are those of its subtasks. A metric that is not a mean of scores (the
    perplexity of a corpus) has none.

    Raises:
        OSError, ValueError: if the file cannot be read.
    """
    wanted = {metric: leaves for metric in metrics if (leaves := _leaves(point, metric))}
    if not wanted or not point.files.samples.is_file():
        return {}
    import pyarrow.parquet as pq

    file = pq.ParquetFile(point.files.samples)
    columns = [name for name in (*COLUMNS, *LATER) if name in file.schema_arrow.names]
    found: dict[MetricId, dict[str, dict[int, _Given]]] = {metric: {} for metric in wanted}
    for batch in file.iter_batches(columns=columns):
        for row in batch.to_pylist():
            scores = dict(row["scores"] or ())
            for metric, leaves in wanted.items():
                score = scores.get(metric.metric)
                if score is not None and row["task"] in leaves and row["filter"] == metric.filter:
                    given = _Given(score, _given(row), tuple(row.get("seeds") or ()))
                    asked = found[metric].setdefault(_question(row), {})
                    asked.setdefault(row.get("repeat") or 0, given)
    return {
        metric: answers
        for metric, asked in found.items()
        if (answers := _answers(asked, _sampled(point, metric)))
    }


@dataclass(frozen=True)
class _Given:
    """One answer to a question."""

    score: float
    digest: bytes
    seeds: tuple[int, ...]


def _answers(asked: dict[str, dict[int, _Given]], sampled: bool) -> Answers:
    """One for each question whose answers all have a finite score."""
    seeded = any(given.seeds for own in asked.values() for given in own.values())
    return {
        question: _merged([own[number] for number in sorted(own)], sampled, seeded)
        for question, own in asked.items()
        if all(math.isfinite(given.score) for given in own.values())
    }


def _merged(own: list[_Given], sampled: bool, seeded: bool) -> Answer:
    """`seeded` says that the run recorded seeds: an answer without one is then not sampled."""
    seeds = [given.seeds for given in own]
    draw: bytes | None = b""
    if sampled and (not seeded or any(seeds)):
        draw = _digest(seeds) if all(seeds) else None
    digest = _digest([given.digest for given in own])
    return Answer(fmean(given.score for given in own), digest, len(own), draw)


def _sampled(point: SweptPoint, metric: MetricId) -> bool:
    """Whether some answers behind the metric are sampled at random."""
    tasks: tuple[TaskOutcome, ...] = point.outcome.tasks if point.outcome is not None else ()
    return any(
        task.drawn > 0
        for task in tasks
        if metric.task in {task.task, *(result.task for result in task.metrics)}
    )


def _leaves(point: SweptPoint, metric: MetricId) -> set[str]:
    """Names whose samples may stand behind the metric: its task, and for a group all below it."""
    tasks: tuple[TaskOutcome, ...] = point.outcome.tasks if point.outcome is not None else ()
    for task in tasks:
        names = {result.task for result in task.metrics}
        if task.task == metric.task:
            return {task.task, *names}
        if metric.task in names:
            return {metric.task}
    return set()


def _question(row: dict[str, Any]) -> str:
    """Interned: every point of a sweep has the same."""
    return sys.intern(f"{row['task']} {row['doc_id']} {row['doc_hash']}")


def _given(row: dict[str, Any]) -> bytes:
    return _digest(answer(row["responses"] or (), row.get("choice_logprobs") or ()))


def _digest(value: object) -> bytes:
    return hashlib.blake2b(repr(value).encode(), digest_size=8).digest()
