"""The acceptance of drafted tokens, as metrics of a run's only task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.lm.speculation import with_acceptance
from runner.outcome import Outcome, TaskOutcome
from runner.served import Served, ServerWork, Speculation

WORK = ServerWork(0, None, None, None, None, {"stop": 600}, Speculation(100, 300, 150, (90, 60)))
SERVED = Served("0.32.0", "canary", None, "", asked=600, answered=600, work=WORK)


@pytest.fixture
def task(outcome: Outcome) -> TaskOutcome:
    return outcome.tasks[0]


def test_the_only_task_gets_both_numbers(task: TaskOutcome) -> None:
    (found,) = with_acceptance([task], SERVED)
    added = {each.metric: each.value for each in found.metrics[len(task.metrics) :]}
    assert added == {"acceptance_rate": 0.5, "accepted_length": 2.5}
    assert {each.n for each in found.metrics[len(task.metrics) :]} == {task.evaluated}


@pytest.mark.parametrize(
    "served",
    [
        None,
        replace(SERVED, work=None),
        replace(SERVED, work=replace(WORK, speculation=None)),
        replace(SERVED, work=replace(WORK, restarted=True)),
        replace(SERVED, work=replace(WORK, finished={"stop": 601})),  # another client's
        replace(SERVED, work=replace(WORK, speculation=Speculation(0, 0, 0))),
    ],
)
def test_what_the_run_did_not_measure_is_no_metric(
    task: TaskOutcome, served: Served | None
) -> None:
    assert with_acceptance([task], served) == (task,)


def test_counts_of_a_run_belong_to_no_task_of_several(task: TaskOutcome) -> None:
    assert with_acceptance([task, task], SERVED) == (task, task)
