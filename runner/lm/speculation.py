"""Speculative decoding as metrics that a baseline can judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runner.outcome import MetricResult, TaskOutcome
from runner.served import ACCEPTANCE_RATE, ACCEPTED_LENGTH, Served, Speculation


def with_acceptance(
    tasks: Sequence[TaskOutcome], served: Served | None, speculation: Speculation | None = None
) -> tuple[TaskOutcome, ...]:
    """The tasks; a single one gets `acceptance_rate` and `accepted_length` as metrics.

    `speculation` is that of an engine in the worker. Engines and servers count for a whole run, so
    their counts belong to no task of several.
    """
    found = speculation or _of_server(served)
    if found is None or len(tasks) != 1:
        return tuple(tasks)
    (task,) = tasks
    values = {
        ACCEPTANCE_RATE: found.acceptance_rate,
        ACCEPTED_LENGTH: found.accepted_length,
    }
    metrics = tuple(
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
    return (replace(task, metrics=(*task.metrics, *metrics)),)


def _of_server(served: Served | None) -> Speculation | None:
    """A server's counts, if they are this run's.

    They are not if its counters restarted, or if other clients' requests are among them.
    """
    work = served.work if served is not None else None
    if served is None or work is None or work.restarted:
        return None
    copies = served.first_token.requests if served.first_token is not None else 0
    if sum(work.finished.values()) != served.answered + copies:
        return None
    return work.speculation
