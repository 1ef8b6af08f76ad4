"""Reasons why degenerate answers keep a run from passing."""

from __future__ import annotations

from runner.evidence.degenerate import SAID
from runner.outcome import Degeneracy, Degenerate, TaskOutcome
from runner.percent import percent

ALLOW = "verdict.allow_degenerate"
# The share of degenerate answers that is accepted in addition to that of the reference run, and the
# smallest number that counts as a share. Degenerate answers score 0 at worst, so 1 % of them lower
# the mean of scores between 0 and 1 by at most 0.01: half the default margin of `paired`.
ACCEPTED, LEAST = 0.01, 2


def broken_numbers(task: TaskOutcome) -> str:
    """Return how many answers have no finite log-probability; empty if there are none."""
    found = [each for each in task.degenerate if each.kind is Degeneracy.NOT_A_NUMBER]
    return ", ".join(f"{each.answers} answers {_said(each)}" for each in found)


def too_many(task: TaskOutcome, reference: TaskOutcome | None = None) -> str:
    """Return how many answers are degenerate in another way; empty if that is accepted.

    A model that gives such answers gives them in the reference run as well, so only those count
    that exceed its share. If all answers are degenerate, equal ones in both runs prove nothing.
    """
    found = _others(task)
    count, share = _count(found), _share(task)
    usual = _share(reference) if reference is not None else 0.0
    if count < LEAST or (share <= usual + ACCEPTED and share < 1):
        return ""
    kinds = ", ".join(f"{each.answers} {_said(each)}" for each in found)
    beside = f", {percent(usual)} in the reference run" if reference is not None else ""
    shares = f"{percent(share)}{beside}"
    return f"{count} of {task.answers or task.evaluated} answers are degenerate ({shares}): {kinds}"


def _others(task: TaskOutcome) -> list[Degenerate]:
    return [each for each in task.degenerate if each.kind is not Degeneracy.NOT_A_NUMBER]


def _count(found: list[Degenerate]) -> int:
    return sum(each.answers for each in found)


def _share(task: TaskOutcome) -> float:
    return _count(_others(task)) / max(task.answers or task.evaluated, 1)


def _said(found: Degenerate) -> str:
    return f"{SAID[found.kind]} (for example document {found.doc_id} of {found.task})"
