"""Why a score that looks right may still be of something else."""

from __future__ import annotations

from runner.outcome import TaskOutcome
from runner.plan import Evaluation

ALLOW = "verdict.allow_partial"


def doubts_of(task: TaskOutcome, n: int) -> str:
    """What was wrong with a task of which `n` samples stand behind a number; empty if nothing."""
    doubts = []
    counted = n if task.evaluated == task.expected else task.evaluated
    if counted != task.expected or task.expected == 0:
        doubts.append(f"{counted} of {task.expected} samples evaluated")
    if task.truncated:
        doubts.append(f"{task.truncated} prompts were cut to fit max_model_len")
    if task.refused:
        doubts.append(f"{task.refused} prompts were longer than max_model_len and not asked")
    if task.unmatched:
        # Whether these were cut or refused cannot be known, so they may not pass for whole.
        doubts.append(f"{task.unmatched} samples have no record of what the engine answered")
    doubts += [
        f"in {each.samples} of {task.evaluated} samples, {each.said} (such as document "
        f"{each.doc_id} of {each.task})"
        for each in task.departures
    ]
    return ", ".join(doubts)


def other_samples(evaluation: Evaluation, task: TaskOutcome) -> str:
    """How the samples asked differ from those that the baseline was measured on; empty if they
    don't.

    A baseline belongs to the limit in `model.ask`, which is part of how the model is usually asked.
    """
    of_baseline = evaluation.baseline_limit
    if evaluation.limit == of_baseline or not (task.partial or of_baseline is not None):
        return ""
    known = "all" if of_baseline is None else f"limit={of_baseline:g}"
    return f"{task.expected} of {task.whole} samples (task.limit), and the baseline is of {known}"
