"""Reasons why answers that the token limit stopped keep a run from passing."""

from __future__ import annotations

from runner.outcome import TaskOutcome
from runner.percent import percent

ALLOW = "verdict.allow_cut"
# The share of cut answers that is accepted in addition to that of the reference run. A cut answer
# scores 0 at worst, so this many can lower a mean of scores between 0 and 1 by 0.05, the default
# tolerance of `isclose`. One alone is no share.
ACCEPTED, LEAST = 0.05, 2


def too_many(task: TaskOutcome, reference: TaskOutcome | None = None) -> str:
    """Return how many answers were cut; empty if that is accepted."""
    share = _share(task)
    usual = _share(reference) if reference is not None else 0.0
    if task.cut_answers < LEAST or share <= usual + ACCEPTED:
        return ""
    beside = f", {percent(usual)} in the reference run" if reference is not None else ""
    thinking = f", {task.cut_thinking} of them while thinking" if task.cut_thinking else ""
    answers = task.answers or task.evaluated
    return (
        f"{task.cut_answers} of {answers} answers ({percent(share)}{beside}) were stopped at the "
        f"token limit{thinking}"
    )


def _share(task: TaskOutcome) -> float:
    return task.cut_answers / max(task.answers or task.evaluated, 1)
