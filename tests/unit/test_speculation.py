"""The acceptance of drafted tokens, as metrics of a run's only task."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from runner.config.schema import RunConfig
from runner.lm.speculation import with_acceptance
from runner.outcome import Outcome, TaskOutcome
from runner.report.terminal import show_feeding
from runner.runtimes.vllm.speculation import (
    ACCEPTED,
    BY_POSITION,
    DRAFTED,
    DRAFTS,
    between,
    counted,
    counting,
)
from runner.served import FirstToken, Served, ServerWork, Speculation
from runner.tracking.metrics import metrics
from runner.verdict import judge

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


def test_an_engine_in_the_worker_counts_its_own(task: TaskOutcome) -> None:
    (found,) = with_acceptance([task], None, Speculation(10, 20, 15))
    added = {each.metric: each.value for each in found.metrics[len(task.metrics) :]}
    assert added == {"acceptance_rate": 0.75, "accepted_length": 2.5}


def test_streamed_copies_are_the_runs_own_requests(task: TaskOutcome) -> None:
    copies = replace(SERVED, first_token=FirstToken(0.1, 0.2, 16))
    assert with_acceptance([task], copies) == (task,)
    work = replace(WORK, finished={"stop": 600, "length": 16})
    (found,) = with_acceptance([task], replace(copies, work=work))
    assert len(found.metrics) == len(task.metrics) + 2


def test_statistics_are_only_turned_on_for_drafted_tokens() -> None:
    drafting = {"speculative_config": {"method": "ngram"}}
    assert counting({}) == counting({"speculative_config": None}) == {}
    assert counting(drafting) == {"disable_log_stats": False}
    assert counting({**drafting, "disable_log_stats": True}) == {}


def engine(*metrics: SimpleNamespace, log_stats: bool = True) -> SimpleNamespace:
    def get_metrics() -> list[SimpleNamespace]:
        assert log_stats
        return list(metrics)

    return SimpleNamespace(llm_engine=SimpleNamespace(log_stats=log_stats), get_metrics=get_metrics)


def test_counters_of_all_engines_are_added() -> None:
    others = [SimpleNamespace(name="vllm:generation_tokens", value=5)]
    counters = [
        SimpleNamespace(name=name, value=value)
        for name, value in ((DRAFTS, 10), (DRAFTED, 20), (ACCEPTED, 15))
    ]
    positions = [SimpleNamespace(name=BY_POSITION, values=[9, 6])]
    found = counted(engine(*others, *counters, *counters, *positions, *positions))
    assert found == Speculation(20, 40, 30, (18, 12))
    assert counted(engine(*others)) is None
    assert counted(engine(*counters, log_stats=False)) is None
    assert counted(SimpleNamespace(llm_engine=object())) is None  # a server


def test_a_run_counts_from_its_beginning() -> None:
    first, second = Speculation(10, 20, 15, (9, 6)), Speculation(14, 28, 20, (12, 8))
    assert between(first, second) == Speculation(4, 8, 5, (3, 2))
    assert between(None, second) == second
    assert between(None, None) is None


def test_reports_and_mlflow_have_it(outcome: Outcome) -> None:
    drafted = replace(outcome, speculation=Speculation(100, 300, 150))
    verdict = judge(drafted, (), RunConfig().verdict)
    found = metrics(drafted, verdict)
    assert (found["perf/acceptance_rate"], found["perf/accepted_length"]) == (0.5, 2.5)
    assert "perf/acceptance_rate" not in metrics(outcome, verdict)
    out = Console(file=io.StringIO(), width=120)
    show_feeding(out, drafted)
    said = "speculative decoding: 50.0 % of 300 drafted tokens accepted, 2.50 tokens per step\n"
    assert out.file.getvalue().endswith(said)  # type: ignore[attr-defined]
    assert Speculation(0, 0, 0).said == "no tokens drafted"


def test_counts_of_a_run_belong_to_no_task_of_several(task: TaskOutcome) -> None:
    assert with_acceptance([task, task], SERVED) == (task, task)
