"""Evaluates lm-eval's tasks on a running engine; returns TaskOutcomes and their samples."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from lm_eval import evaluator
from lm_eval.tasks import TaskManager

from runner.errors import UserError
from runner.evidence.unparsable import unparsable
from runner.lm.answer import TOO_LONG
from runner.lm.answering import Model
from runner.lm.building import run_lm_eval
from runner.lm.images import Album
from runner.lm.mistakes import explained
from runner.lm.replaced import replaced
from runner.lm.requests import departures
from runner.lm.sample_table import SampleRow, sample_rows
from runner.lm.tasks import LoadedTask
from runner.outcome import Degeneracy, Degenerate, MetricResult, TaskOutcome
from runner.plan import Plan

Finished = Callable[[TaskOutcome, list[SampleRow]], None]


def evaluate(
    lm: Model,
    manager: TaskManager,
    loaded: Sequence[LoadedTask],
    plan: Plan,
    album: Album,
    finished: Finished,
) -> None:
    """Send, score and aggregate every task; call `finished` with each one as soon as it is scored.

    The requests are those that `build_requests` left; lm-eval builds any that are missing. Tasks
    whose requests can share a stream do. Images that were shown go to the album.
    """
    # lm-eval's description of the machine takes a second per task, and the run records its own.
    with (
        replaced(evaluator, "add_env_info", lambda results: None),
        replaced(evaluator, "get_git_commit_hash", lambda: ""),
    ):
        for (batch_size, chat), tasks in groupby(loaded, _way_of_asking):
            named = [
                (each.evaluation.task, partial(_evaluate, lm, manager, each, plan, album, finished))
                for each in tasks
            ]
            lm.together(named, batch_size, chat)


def _way_of_asking(loaded: LoadedTask) -> tuple[str, bool]:
    """The settings that lm-eval's model classes apply to all requests of a task at once."""
    return loaded.evaluation.batch_size, loaded.evaluation.apply_chat_template


def _evaluate(
    lm: Model,
    manager: TaskManager,
    loaded: LoadedTask,
    plan: Plan,
    album: Album,
    finished: Finished,
) -> None:
    try:
        results = run_lm_eval(lm, manager, loaded, plan)
    except UserError:
        raise
    except Exception as error:  # `explained` re-raises errors that the task did not cause
        raise UserError(explained(error, loaded.evaluation.task)) from error
    rows = sample_rows(lm, loaded, results["samples"], album, plan.cluster)
    for leaf in loaded.leaves.values():
        leaf._instances = None  # they keep all documents and images in memory
    finished(_task_outcome(loaded, results, rows, lm.spent()), rows)


def _task_outcome(
    loaded: LoadedTask, results: Any, rows: list[SampleRow], seconds: float
) -> TaskOutcome:
    leaves = _leaves_of(results["group_subtasks"])
    scores = _scores(results["samples"])
    metrics = [
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
            whole=_whole(loaded, results["n-samples"], leaves(name)),
        )
        for name, values in results["results"].items()
        for metric, filter_name, value in _reported(values)
    ]
    top = loaded.evaluation.task
    metrics.sort(key=lambda each: each.task != top)
    first_filters = {row.sample: row for row in rows}  # one row per sample, whatever its filters
    finishes = Counter(reason for row in first_filters.values() for reason in row.finish_reasons)
    # A rolling log-likelihood is the sum over several windows, so no single answer stands for
    # it.
    rolling = {n for n, t in loaded.leaves.items() if t.OUTPUT_TYPE == "loglikelihood_rolling"}
    return TaskOutcome(
        task=top,
        metrics=tuple(metrics),
        expected=loaded.expected,
        evaluated=len(first_filters),
        truncated=sum(row.truncated for row in first_filters.values()),
        refused=sum(TOO_LONG in row.finish_reasons for row in first_filters.values()),
        cut_answers=finishes["length"] if _generates(loaded) else 0,
        unmatched=sum(
            not row.finish_reasons and row.task not in rolling for row in first_filters.values()
        ),
        unparsable=len(first_filters.keys() - {row.sample for row in rows if _read(row)}),
        guessed=len({row.sample for row in rows if row.guessed}),
        seconds=seconds,
        output_tokens=sum(len(row.token_ids) for row in first_filters.values()),
        answers=finishes.total(),
        prompt_digest=_prompt_digest(rows),
        data_digest=_digest(sorted({(row.task, row.doc_id, row.doc_hash) for row in rows})),
        whole=loaded.whole,
        greedy_by_default=sum(len(each.greedy_by_default) for each in loaded.requests.values()),
        drawn=sum(len(each.drawn) for each in loaded.requests.values()),
        departures=departures(loaded.requests.values()),
        degenerate=_degenerate(first_filters.values()),
    )


def _whole(loaded: LoadedTask, counts: Any, leaves: Sequence[str]) -> int | None:
    """Number of samples without the limit; None if the limit left none out."""
    if loaded.expected == loaded.whole:
        return None
    return sum(int(counts[leaf]["original"]) for leaf in leaves)


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


def _read(row: SampleRow) -> bool:
    """Whether lm-eval could parse an answer. A prompt that was never sent counts as parsed."""
    return TOO_LONG in row.finish_reasons or not unparsable(row)


def _degenerate(rows: Iterable[SampleRow]) -> tuple[Degenerate, ...]:
    """The degenerate answers of all samples by kind, each with the first sample."""
    found: dict[str, list[SampleRow]] = {}
    for row in rows:
        for kind in row.degenerate:
            found.setdefault(kind, []).append(row)
    return tuple(
        Degenerate(kind, len(found[kind]), *found[kind][0].sample)
        for kind in Degeneracy
        if kind in found
    )


def _generates(loaded: LoadedTask) -> bool:
    return any(task.OUTPUT_TYPE == "generate_until" for task in loaded.leaves.values())


def _prompt_digest(rows: list[SampleRow]) -> str:
    """SHA-256 over all prompts and images: identifies the evaluation beyond its settings."""
    asked = sorted((row.task, row.doc_id, row.prompt_hash, *row.image_hashes) for row in rows)
    return _digest(asked)


def _digest(parts: list[tuple[Any, ...]]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
