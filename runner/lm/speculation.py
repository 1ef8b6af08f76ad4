"""Speculative decoding as metrics that a baseline can judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runner.outcome import MetricResult, TaskOutcome
from runner.served import Served

ACCEPTANCE_RATE, ACCEPTED_LENGTH = "acceptance_rate", "accepted_length"
# With their filter, as baselines name them.
OF_SPECULATION = {(ACCEPTANCE_RATE, "none"), (ACCEPTED_LENGTH, "none")}


def with_acceptance(tasks: Sequence[TaskOutcome], served: Served | None) -> tuple[TaskOutcome, ...]:
    """The tasks; a single one gets `acceptance_rate` and `accepted_length` as metrics.

    A server counts for a whole run, so its counts belong to no task of several. If its counters
    restarted, or other clients' requests are among them, they are not this run's.
    """
    work = served.work if served is not None else None
    if served is None or work is None or len(tasks) != 1 or work.restarted:
        return tuple(tasks)
    speculation, (task,) = work.speculation, tasks
    copies = served.first_token.requests if served.first_token is not None else 0
    if speculation is None or sum(work.finished.values()) != served.answered + copies:
        return (task,)
    values = {
        ACCEPTANCE_RATE: speculation.acceptance_rate,
        ACCEPTED_LENGTH: speculation.accepted_length,
    }
    found = tuple(
        MetricResult(
            task=task.task,
            metric=name,
            filter="none",
            value=value,
            stderr=None,
            n=task.evaluated,
            higher_is_better=True,
            binary=False,
            whole=task.whole if task.partial else None,
        )
        for name, value in values.items()
        if value is not None
    )
    return (replace(task, metrics=(*task.metrics, *found)),)
