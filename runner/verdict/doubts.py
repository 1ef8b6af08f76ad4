"""Reasons why a score may not represent the whole task."""

from __future__ import annotations

import math

from runner.config.verdict import REFERENCE_RULES
from runner.outcome import TaskOutcome
from runner.plan import Evaluation
from runner.verdict.degenerate import broken_numbers
from runner.verdict.rule import Against

ALLOW = "verdict.allow_partial"
ALLOW_REFERENCE = "verdict.allow_reference"


def doubts_of(task: TaskOutcome, n: int) -> str:
    """Return the problems of a task whose metric has `n` samples; empty if there are none."""
    doubts = []
    counted = n if task.evaluated == task.expected else task.evaluated
    if counted != task.expected or task.expected == 0:
        doubts.append(f"{counted} of {task.expected} {task.unit} evaluated")
    if task.truncated:
        doubts.append(f"{task.truncated} prompts were left-truncated to max_model_len")
    if task.refused:
        doubts.append(f"{task.refused} prompts exceeded max_model_len and were not sent")
    if task.unmatched:
        # These may have been truncated or refused, so they count as a problem.
        doubts.append(f"{task.unmatched} samples have no recorded engine answer")
    doubts += [
        f"in {each.samples} of {task.evaluated} {task.unit}, {each.said} (for example document "
        f"{each.doc_id} of {each.task})"
        for each in task.departures
    ]
    return ", ".join(doubts)


def other_samples(evaluation: Evaluation, task: TaskOutcome) -> str:
    """Return how the samples differ from those of the baseline; empty if they do not.

    A baseline belongs to the limit in `model.ask`.
    """
    of_baseline = evaluation.baseline_limit
    if evaluation.limit == of_baseline or not (task.partial or of_baseline is not None):
        return ""
    known = f"on all {task.unit}" if of_baseline is None else f"with limit={of_baseline:g}"
    return (
        f"{task.expected} of {task.whole} {task.unit} (task.limit), but the baseline was measured "
        f"{known}"
    )


def meaningless(task: TaskOutcome) -> str:
    """Return why the task's answers measure nothing, whatever they score; empty if they do."""
    unread = ""
    if task.unparsable >= task.scored > 0:
        unread = f"none of {task.scored} answers could be parsed"
    return ", ".join(filter(None, (broken_numbers(task), unread)))


def not_finite(task: TaskOutcome) -> str:
    """Return the task's metrics that are NaN or infinite; empty if there are none.

    For a rule that reads no metric's value; the others fail such a metric.
    """
    return ", ".join(
        f"{each.task} {each.name} is {each.value}"
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
        name = f"the reference run {run.used.name}" if several else "the reference run"
        found += [
            f"in {name}, {doubt}"
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
                f"{name} {', '.join(unfit)}; choose another reference run, or set "
                f"{ALLOW_REFERENCE}=true"
            )
    return ", ".join(found)
