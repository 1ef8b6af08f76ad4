"""Reads the scores of a point by question and metric from samples.parquet."""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import dataclass
from typing import Any

from runner.evidence.samples import answer
from runner.outcome import TaskOutcome
from runner.sweep.summary import MetricId, SweptPoint

COLUMNS = ["task", "doc_id", "filter", "doc_hash", "responses", "choice_logprobs", "scores"]


@dataclass(frozen=True)
class Answer:
    """The score of one question and a digest of the answer: its text or its most likely choice."""

    score: float
    digest: bytes


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

    found: dict[MetricId, Answers] = {metric: {} for metric in wanted}
    for batch in pq.ParquetFile(point.files.samples).iter_batches(columns=COLUMNS):
        for row in batch.to_pylist():
            scores = dict(row["scores"] or ())
            for metric, leaves in wanted.items():
                score = scores.get(metric.metric)
                fits = row["task"] in leaves and row["filter"] == metric.filter
                if fits and score is not None and math.isfinite(score):
                    found[metric].setdefault(_question(row), Answer(score, _digest(row)))
    return {metric: answers for metric, answers in found.items() if answers}


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


def _digest(row: dict[str, Any]) -> bytes:
    given = answer(row["responses"] or (), row.get("choice_logprobs") or ())
    return hashlib.blake2b(repr(given).encode(), digest_size=8).digest()
