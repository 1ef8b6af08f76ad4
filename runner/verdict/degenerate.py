"""Reasons why degenerate answers keep a run from passing."""

from __future__ import annotations

from runner.language import N_, gettext
from runner.outcome import Degeneracy, Degenerate, TaskOutcome
from runner.verdict.cut import shares

ALLOW = "verdict.allow_degenerate"
# The share of degenerate answers that is accepted in addition to that of the reference run, and the
# smallest number that counts as a share. Degenerate answers score 0 at worst, so 1 % of them lower
# the mean of scores between 0 and 1 by at most 0.01: half the default margin of `paired`.
ACCEPTED, LEAST = 0.01, 2

SAID = {
    Degeneracy.NOT_A_NUMBER: N_(
        "{answers} answers have a log-probability that is NaN or infinite (for example document "
        "{document} of {task})"
    ),
    Degeneracy.REPEATING: N_(
        "{answers} repeat the same tokens to the end (for example document {document} of {task})"
    ),
    Degeneracy.REPLACEMENT: N_(
        "{answers} contain the replacement character U+FFFD (for example document {document} of "
        "{task})"
    ),
    Degeneracy.EMPTY: N_("{answers} are empty (for example document {document} of {task})"),
}


def broken_numbers(task: TaskOutcome) -> str:
    """Return how many answers have no finite log-probability; empty if there are none."""
    found = [each for each in task.degenerate if each.kind is Degeneracy.NOT_A_NUMBER]
    return gettext(", ").join(map(_said, found))


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
    return gettext(
        "{count} of {answers} answers are degenerate ({share}): {kinds}",
        count=count,
        answers=task.answers or task.evaluated,
        share=shares(share, None if reference is None else usual),
        kinds=gettext(", ").join(map(_said, found)),
    )


def _others(task: TaskOutcome) -> list[Degenerate]:
    return [each for each in task.degenerate if each.kind is not Degeneracy.NOT_A_NUMBER]


def _count(found: list[Degenerate]) -> int:
    return sum(each.answers for each in found)


def _share(task: TaskOutcome) -> float:
    return _count(_others(task)) / max(task.answers or task.evaluated, 1)


def _said(found: Degenerate) -> str:
    return gettext(SAID[found.kind], answers=found.answers, document=found.doc_id, task=found.task)
