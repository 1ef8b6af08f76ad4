"""Why a score that looks right may still be of something else."""

from __future__ import annotations

from runner.outcome import TaskOutcome


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
    return ", ".join(doubts)
