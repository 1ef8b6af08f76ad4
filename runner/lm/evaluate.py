"""Evaluates lm-eval's tasks on a running engine; returns TaskOutcomes and their samples."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

from lm_eval import evaluator
from lm_eval.tasks import TaskManager

from runner.errors import UserError
from runner.evidence.unparsable import unparsable
from runner.lm.answer import TOO_LONG
from runner.lm.answering import Model
from runner.lm.images import Album
from runner.lm.looks import looks
from runner.lm.metrics import metric_results
from runner.lm.mistakes import explained
from runner.lm.passes import Pass, passes
from runner.lm.replaced import replaced
from runner.lm.requests import departures
from runner.lm.sample_table import SampleRow, sample_rows
from runner.lm.tasks import LoadedTask
from runner.look import CONTINUED, ONLY, Look
from runner.outcome import Degeneracy, Degenerate, TaskOutcome
from runner.plan import Plan

Finished = Callable[[TaskOutcome, list[SampleRow]], None]
# Whether the questions asked so far are enough for a verdict.
Enough = Callable[[TaskOutcome, list[SampleRow]], bool]


def evaluate(
    lm: Model,
    manager: TaskManager,
    loaded: Sequence[LoadedTask],
    plan: Plan,
    album: Album,
    finished: Finished,
    enough: Enough = lambda outcome, rows: False,
) -> None:
    """Send, score and aggregate every task; call `finished` with each one as soon as it is scored.

    The requests are those that `build_requests` left; lm-eval builds any that are missing. Tasks
    whose requests can share a stream do. If the plan is sequential, they are asked one after the
    other, and `enough` is called at each look but the last. Images that were shown go to the
    album.
    """
    # lm-eval's description of the machine takes a second per task, and the run records its own.
    with (
        replaced(evaluator, "add_env_info", lambda results: None),
        replaced(evaluator, "get_git_commit_hash", lambda: ""),
    ):
        if plan.sequential:
            for each in loaded:
                run = partial(_in_looks, lm, manager, each, plan, album, finished, enough)
                lm.together([(each.evaluation.task, run)], *_way_of_asking(each))
            return
        for (batch_size, chat), tasks in groupby(loaded, _way_of_asking):
            named = [
                (each.evaluation.task, partial(_evaluate, lm, manager, each, plan, album, finished))
                for each in tasks
            ]
            lm.together(named, batch_size, chat)


def _way_of_asking(loaded: LoadedTask) -> tuple[str, bool]:
    """The settings that lm-eval's model classes apply to all requests of a task at once."""
    return loaded.evaluation.batch_size, loaded.evaluation.apply_chat_template


def _in_looks(
    lm: Model,
    manager: TaskManager,
    loaded: LoadedTask,
    plan: Plan,
    album: Album,
    finished: Finished,
    enough: Enough,
) -> None:
    """Ask questions until they are enough for a verdict, or all are asked."""
    try:
        for look, asked in looks(lm, manager, loaded, plan):
            try:
                outcome, rows = _scored(lm, loaded, asked, plan, album, look)
            except UserError:
                if look.last:
                    raise
                continue  # some metrics can't be computed from few questions
            if look.last or enough(outcome, rows):
                break
    except UserError:
        raise
    except Exception as error:  # as in `_scored`
        raise UserError(explained(error, loaded.evaluation.task)) from error
    _drop_requests(loaded)
    finished(outcome, rows)


def _evaluate(
    lm: Model,
    manager: TaskManager,
    loaded: LoadedTask,
    plan: Plan,
    album: Album,
    finished: Finished,
) -> None:
    look = CONTINUED if plan.journal is not None and plan.journal.continues else ONLY
    outcome, rows = _scored(lm, loaded, passes(lm, manager, loaded, plan), plan, album, look)
    _drop_requests(loaded)
    finished(outcome, rows)


def _drop_requests(loaded: LoadedTask) -> None:
    """They keep all documents and images in memory."""
    for leaf in loaded.leaves.values():
        leaf._instances = None


def _scored(
    lm: Model, loaded: LoadedTask, asked: Iterable[Pass], plan: Plan, album: Album, look: Look
) -> tuple[TaskOutcome, list[SampleRow]]:
    """The outcome and the samples of all passes over the questions asked so far."""
    results: list[Any] = []
    rows: list[SampleRow] = []
    try:
        for each in asked:
            rows += sample_rows(lm, loaded, each, album, plan.cluster)
            if plan.replay:  # the scores are those of the reference run's texts
                rows = [replace(row, scores={}) for row in rows]
            results.append(each.results)
    except UserError:
        raise
    except Exception as error:  # `explained` re-raises errors that the task did not cause
        raise UserError(explained(error, loaded.evaluation.task)) from error
    chosen = bool(plan.replay and plan.replay.questions)
    outcome = _task_outcome(loaded, results, rows, lm.spent(), look, chosen)
    if plan.replay:
        outcome = replace(outcome, chosen_at_random=plan.replay.drawn)
        broken = [n for n in outcome.degenerate if n.kind is Degeneracy.NOT_A_NUMBER]
        outcome = replace(outcome, metrics=(), unparsable=0, guessed=0, degenerate=tuple(broken))
    return outcome, rows


def _task_outcome(
    loaded: LoadedTask,
    results: Sequence[Any],
    rows: list[SampleRow],
    seconds: float,
    look: Look,
    chosen: bool,
) -> TaskOutcome:
    # One row per answer to a question, whatever its filters.
    answered = {(*row.sample, row.repeat): row for row in rows}
    finishes = Counter(reason for row in answered.values() for reason in row.finish_reasons)
    # A rolling log-likelihood is the sum over several windows, so no single answer stands for
    # it.
    rolling = {n for n, t in loaded.leaves.items() if t.OUTPUT_TYPE == "loglikelihood_rolling"}
    read = {(*row.sample, row.repeat) for row in rows if _read(row)}
    asked = {name: {i.doc_id for i in leaf.instances} for name, leaf in loaded.leaves.items()}
    expected = loaded.expected if look.last and not chosen else sum(map(len, asked.values()))
    return TaskOutcome(
        task=loaded.evaluation.task,
        metrics=metric_results(loaded, results, rows, limited=expected < loaded.whole),
        expected=expected,
        evaluated=len({row.sample for row in rows}),
        samples=loaded.evaluation.samples,
        truncated=sum(row.truncated for row in answered.values()),
        refused=sum(TOO_LONG in row.finish_reasons for row in answered.values()),
        cut_answers=finishes["length"] if _generates(loaded) else 0,
        cut_thinking=sum(row.cut_thinking for row in answered.values()),
        thought_only=sum(row.thought_only for row in answered.values()),
        unmatched=sum(
            not row.finish_reasons and row.task not in rolling for row in answered.values()
        ),
        unparsable=len(answered.keys() - read),
        guessed=len({(*row.sample, row.repeat) for row in rows if row.guessed}),
        seconds=seconds,
        output_tokens=sum(len(row.token_ids) for row in answered.values()),
        answers=finishes.total(),
        prompt_digest=_prompt_digest(rows),
        data_digest=_digest(sorted({(row.task, row.doc_id, row.doc_hash) for row in rows})),
        whole=loaded.whole,
        greedy_by_default=sum(
            len(each.greedy_by_default & asked[name]) for name, each in loaded.requests.items()
        ),
        drawn=sum(len(each.drawn & asked[name]) for name, each in loaded.requests.items()),
        departures=departures(loaded.requests, asked),
        degenerate=_degenerate(answered.values()),
        look=look,
        chosen=chosen,
    )


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
    asked = sorted(
        (row.task, row.doc_id, row.prompt_hash, *row.image_hashes)
        for row in rows
        if row.repeat == 0
    )
    return _digest(asked)


def _digest(parts: list[tuple[Any, ...]]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
