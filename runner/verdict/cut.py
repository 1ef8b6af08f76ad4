"""Reasons why answers that the token limit stopped keep a run from passing."""

from __future__ import annotations

from runner.language import gettext
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
    counted = gettext(
        "{cut} of {answers} answers ({share}) were stopped at the token limit",
        cut=task.cut_answers,
        answers=task.answers or task.evaluated,
        share=shares(share, None if reference is None else usual),
    )
    if not task.cut_thinking:
        return counted
    return gettext(
        "{cut}, {thinking} of them while thinking", cut=counted, thinking=task.cut_thinking
    )


def shares(own: float, usual: float | None) -> str:
    """Return a share, and beside it that of the reference run if there is one."""
    if usual is None:
        return percent(own)
    return gettext("{own}, {usual} in the reference run", own=percent(own), usual=percent(usual))


def _share(task: TaskOutcome) -> float:
    return task.cut_answers / max(task.answers or task.evaluated, 1)
