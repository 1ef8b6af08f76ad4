"""Reasons why a score may not represent the whole task."""

from __future__ import annotations

from runner.config.verdict import REFERENCE_RULES
from runner.outcome import TaskOutcome
from runner.plan import Evaluation
from runner.verdict.degenerate import broken_numbers
from runner.verdict.rule import Against

ALLOW = "verdict.allow_partial"


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


def of_reference(evaluation: Evaluation, rule: str, against: Against | None) -> str:
    """Return the problems of the reference run: a truncated reference could hide a drop."""
    if against is None or rule not in REFERENCE_RULES:
        return ""
    doubts = [
        doubt
        for task in against.outcome.tasks
        if task.task == evaluation.task
        for doubt in (doubts_of(task, task.evaluated), broken_numbers(task))
    ]
    return ", ".join(f"in the reference run, {each}" for each in doubts if each)
