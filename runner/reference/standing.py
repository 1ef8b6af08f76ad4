"""Reasons not to take a run as a reference: its own verdict, another model, and a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.language import gettext
from runner.outcome import TaskOutcome
from runner.status import Status


def judged(status: str) -> str:
    """Return why a run's own verdict makes it a doubtful reference; empty if it does not.

    `status` is empty if the run has no verdict. An UNJUDGED or INCONCLUSIVE run may lack a baseline
    or enough samples: as a measurement it is as good as any.
    """
    if not status:
        return gettext("has no verdict (verdict.json is missing)")
    return gettext("FAILED itself") if status == Status.FAILED.value else ""


def partial(asked: Mapping[str, Any], task: TaskOutcome) -> str:
    """Return how many samples a partial run has of the task; empty if it is not partial.

    As in a verdict, a limit that the baselines were measured with makes no run partial. `asked` is
    the task's evaluation in the plan.
    """
    if not task.partial:
        return ""
    if task.look.last and asked.get("limit") == asked.get("baseline_limit"):
        return ""
    return f"has only {task.expected} of {task.whole} {task.unit} ({task.left_out})"


def other_model(theirs: str, ours: str, their_weights: str, our_weights: str) -> str:
    """Return a message if two runs are of different models; empty if they are not.

    A model is identified by its name. Weights that differ under one name are what a comparison is
    for: a copy that was quantized, damaged or updated (model.pretrained). Equal weights under two
    names are one model. Digests alone can't tell: those of a hub's revision and of files never
    match.
    """
    if theirs == ours or (their_weights == our_weights and their_weights not in ("", "unknown")):
        return ""
    return gettext("is of another model ({theirs}, not {ours})", theirs=theirs, ours=ours)
