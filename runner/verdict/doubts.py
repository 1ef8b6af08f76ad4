"""Reasons why a score may not represent the whole task."""

from __future__ import annotations

import math

from runner.config.verdict import REFERENCE_RULES
from runner.language import N_, gettext, translated
from runner.outcome import Departure, TaskOutcome
from runner.plan import Evaluation
from runner.verdict.degenerate import broken_numbers
from runner.verdict.rule import THE_REFERENCE, Against

ALLOW = "verdict.allow_partial"
ALLOW_REFERENCE = "verdict.allow_reference"


def doubts_of(task: TaskOutcome, n: int) -> str:
    """Return the problems of a task whose metric has `n` samples; empty if there are none."""
    doubts = []
    counted = n if task.evaluated == task.expected else task.evaluated
    if counted != task.expected or task.expected == 0:
        doubts.append(_evaluated(task, counted))
    if task.truncated:
        doubts.append(
            gettext("{count} prompts were left-truncated to max_model_len", count=task.truncated)
        )
    if task.refused:
        doubts.append(
            gettext("{count} prompts exceeded max_model_len and were not sent", count=task.refused)
        )
    if task.unmatched:
        # These may have been truncated or refused, so they count as a problem.
        doubts.append(
            gettext("{count} samples have no recorded engine answer", count=task.unmatched)
        )
    doubts += [_departed(task, each) for each in task.departures]
    return gettext(", ").join(doubts)


def _evaluated(task: TaskOutcome, count: int) -> str:
    if task.samples == 1:
        said = N_("{count} of {expected} samples evaluated")
    else:
        said = N_("{count} of {expected} questions evaluated")
    return gettext(said, count=count, expected=task.expected)


def _departed(task: TaskOutcome, found: Departure) -> str:
    if task.samples == 1:
        said = N_(
            "in {count} of {evaluated} samples, {difference} (for example document {document} of "
            "{task})"
        )
    else:
        said = N_(
            "in {count} of {evaluated} questions, {difference} (for example document {document} "
            "of {task})"
        )
    return gettext(
        said,
        count=found.samples,
        evaluated=task.evaluated,
        difference=translated(found.said),
        document=found.doc_id,
        task=found.task,
    )


def other_samples(evaluation: Evaluation, task: TaskOutcome) -> str:
    """Return how the samples differ from those of the baseline; empty if they do not.

    A baseline belongs to the limit in `model.ask`.
    """
    of_baseline = evaluation.baseline_limit
    if evaluation.limit == of_baseline or not (task.partial or of_baseline is not None):
        return ""
    if task.samples == 1:
        whole, limited = (
            N_(
                "{count} of {whole} samples (task.limit), but the baseline was measured on all "
                "samples"
            ),
            N_(
                "{count} of {whole} samples (task.limit), but the baseline was measured with "
                "limit={limit:g}"
            ),
        )
    else:
        whole, limited = (
            N_(
                "{count} of {whole} questions (task.limit), but the baseline was measured on all "
                "questions"
            ),
            N_(
                "{count} of {whole} questions (task.limit), but the baseline was measured with "
                "limit={limit:g}"
            ),
        )
    counts = {"count": task.expected, "whole": task.whole}
    return (
        gettext(whole, **counts)
        if of_baseline is None
        else gettext(limited, limit=of_baseline, **counts)
    )


def meaningless(task: TaskOutcome) -> str:
    """Return why the task's answers measure nothing, whatever they score; empty if they do."""
    unread = ""
    if task.unparsable >= task.scored > 0:
        unread = gettext("none of {count} answers could be parsed", count=task.scored)
    return gettext(", ").join(filter(None, (broken_numbers(task), unread)))


def not_finite(task: TaskOutcome) -> str:
    """Return the task's metrics that are NaN or infinite; empty if there are none.

    For a rule that reads no metric's value; the others fail such a metric.
    """
    return gettext(", ").join(
        gettext("{task} {metric} is {value}", task=each.task, metric=each.name, value=each.value)
        for each in task.metrics
        if not math.isfinite(each.value)
    )


def of_reference(evaluation: Evaluation, rule: str, against: Against | None, allowed: bool) -> str:
    """Return the problems of the reference run: a truncated reference could hide a drop.

    `allowed` (verdict.allow_reference) accepts what the run was judged and which model it ran.
    """
    if against is None or rule not in REFERENCE_RULES:
        return ""
    several = len(against.runs) > 1
    found = []
    for run in against.runs:
        name = run.used.name
        known = (
            gettext("the reference run {name}", name=name) if several else gettext(THE_REFERENCE)
        )
        found += [
            gettext("in {run}, {doubt}", run=known, doubt=doubt)
            for task in run.outcome.tasks
            if task.task == evaluation.task
            for doubt in (
                doubts_of(task, task.evaluated),
                meaningless(task),
                not_finite(task) if rule == "numerics" else "",
            )
            if doubt
        ]
        if unfit := () if allowed else run.doubts:
            found.append(
                gettext(
                    "{run} {doubts}; choose another reference run, or set {key}=true",
                    run=known,
                    doubts=gettext(", ").join(unfit),
                    key=ALLOW_REFERENCE,
                )
            )
    return gettext(", ").join(found)
