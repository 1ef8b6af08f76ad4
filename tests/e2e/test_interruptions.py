"""Signals at a running engine: nothing stays behind, nothing measured is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import Finished, environment
from tests.e2e.started import Started
from tests.shared_memory import orphans

pytestmark = pytest.mark.slow

# Two ranks are processes of their own, with shared memory between them.
TWO_RANKS = ("parallelism.tp=2", "task.limit=100")


@pytest.fixture
def started(tmp_path: Path, store: str) -> Iterator[Started]:
    run = Started(tmp_path, store, *TWO_RANKS)
    run.wait_for_answers()
    yield run
    if run.process.poll() is None:
        run.process.kill()


def _dead(family: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def _nothing_left(started: Started, family: list[psutil.Process]) -> None:
    _dead(family)
    assert not started.scratch.exists()
    assert orphans(started.shared_memory) == set()


def _mlflow_statuses(finished: Finished) -> list[str]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=finished.store)
    experiment = client.get_experiment_by_name("canary")
    assert experiment is not None
    runs = client.search_runs(
        [experiment.experiment_id], filter_string=f"tags.run_directory = '{finished.directory}'"
    )
    return [run.info.status for run in runs]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive)]
)
def test_interrupted_leaves_nothing_behind(started: Started, number: signal.Signals) -> None:
    family = started.family()
    assert len(family) > 2
    assert any(started.scratch.iterdir())
    started.process.send_signal(number)
    finished = started.finish()
    assert finished.status == 130, finished.printed
    assert "Traceback" not in finished.printed
    assert finished.json("verdict.json")["status"] == "INTERRUPTED"
    _nothing_left(started, family)
    assert _mlflow_statuses(finished) == ["KILLED"]


def test_a_killed_engine_is_tried_again_and_costs_nothing_but_time(
    default_run: Finished, tmp_path: Path, store: str
) -> None:
    # Many steps, to be killed between two.
    started = Started(tmp_path, store, "engine.window=32", step_s=0.2)
    begun = started.wait_for("progress")
    started.wait_for("progress", lambda event: event["done"] > begun["total"] // 2)
    family = started.family()
    psutil.Process(started.worker).kill()
    finished = started.finish(timeout=300)
    assert finished.status == default_run.status, finished.printed
    reason = "the worker process died (signal SIGKILL)"
    assert f"{reason}; retrying (1 of 1)" in finished.printed
    assert f"- **Retried after**: {reason}" in finished.report
    _nothing_left(started, family)
    outcome, undisturbed = finished.json("outcome.json"), default_run.json("outcome.json")
    assert outcome["tasks"][0]["metrics"] == undisturbed["tasks"][0]["metrics"]
    assert _answers(finished) == _answers(default_run)
    fed, whole = outcome["feeding"], undisturbed["feeding"]["asked"]
    assert fed["resumed"] > whole // 2
    assert fed["asked"] + fed["resumed"] == whole
    assert _mlflow_statuses(finished) == ["FINISHED"]


def _answers(finished: Finished) -> list[Any]:
    """What was answered to which question; log-probabilities depend on what else is in flight."""
    return [
        (row["task"], row["doc_id"], row["prompt_hash"], row["responses"], row["scores"])
        for row in finished.samples()
    ]


def test_a_killed_parent_takes_the_engine_with_it(started: Started) -> None:
    family = started.family()
    started.process.kill()
    finished = started.finish()
    _nothing_left(started, family)
    sync = [sys.executable, "-m", "runner.sync", str(started.directory)]
    done = subprocess.run(sync, env=environment(), capture_output=True, text=True, timeout=120)
    assert (done.returncode, "1 uploaded, 0 pending" in done.stdout) == (0, True), done.stdout
    assert _mlflow_statuses(finished) == ["KILLED"]
