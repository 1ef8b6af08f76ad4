"""Launchers and sweepers of others drive real engines: submitit's processes, Optuna's search."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.rundir import RunDirectory
from runner.sweep import record
from runner.sweep.objective import objective
from runner.sweep.record import SweepRecord
from tests.e2e.conftest import command, environment
from tests.extras import needs

pytestmark = pytest.mark.slow


def swept(sweep: Path, store: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    start = command(sweep, store)[:3]
    return subprocess.run(
        [
            *start,
            "--multirun",
            f"hydra.sweep.dir={sweep}",
            f"tracking.uri={store}",
            "task.limit=4",
            "verdict.rtol=0.99",
            *overrides,
        ],
        cwd=sweep.parent,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )


def read(sweep: Path) -> SweepRecord:
    found = record.read(sweep)
    assert found is not None
    return found


def names(store: str) -> list[str]:
    """What MLflow calls the runs that are points, behind their verdicts."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    points = [run for run in runs if "engine_fingerprint" in run.data.tags]
    return sorted(run.info.run_name.partition(" ")[2] for run in points)


@needs("hydra_plugins.hydra_submitit_launcher", "slurm")
@pytest.mark.exhaustive
def test_submitit_runs_points_side_by_side_and_once(tmp_path: Path) -> None:
    """The two make their first store together, which MLflow alone does not survive."""
    sweep, store = tmp_path / "sweep", f"sqlite:///{tmp_path / 'mlflow.db'}"
    asked = ("hydra/launcher=submitit_local", "engine.max_model_len=512,1024")
    done = swept(sweep, store, *asked)
    assert done.returncode == 4, done.stdout + done.stderr  # 24 of 600 questions
    assert [point.status for point in read(sweep).points] == [4, 4]
    runs = [RunDirectory(sweep / str(number)) for number in range(2)]
    assert all(run.verdict.exists() and run.tracked.exists() for run in runs)
    assert names(store) == ["canary_vl max_model_len=1024", "canary_vl max_model_len=512"]
    assert "max_model_len" in (sweep / "sweep.md").read_text()

    before = [run.outcome.read_bytes() for run in runs]
    again = swept(sweep, store, *asked)
    assert again.returncode == 4, again.stdout + again.stderr
    assert [run.outcome.read_bytes() for run in runs] == before
    assert not (sweep / "earlier").exists()


@needs("hydra_plugins.hydra_optuna_sweeper", "search")
def test_optuna_searches_batch_by_batch_and_survives_what_is_refused(
    tmp_path: Path, store: str
) -> None:
    sweep = tmp_path / "sweep"
    done = swept(
        sweep,
        store,
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=grid",
        "hydra.sweeper.direction=maximize",
        "hydra.sweeper.n_jobs=1",
        "objective=throughput",
        "engine.extra.max_num_seqs=choice(0,1,8)",
    )
    assert done.returncode == 4, done.stdout + done.stderr  # 24 of 600 questions
    found = read(sweep)
    assert [point.number for point in found.points] == [0, 1, 2]
    assert sorted(point.status or 0 for point in found.points) == [1, 4, 4]
    assert not (sweep / "earlier").exists()  # a batch leaves those before it alone

    numbers = {
        found.axes()["engine.extra.max_num_seqs"][point.number]: objective(
            "throughput", sweep / str(point.number)
        )
        for point in found.points
        if point.status == 4
    }
    best: dict[str, Any] = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    assert best["best_value"] == max(numbers.values())
    assert numbers[str(best["best_params"]["++engine.extra.max_num_seqs"])] == best["best_value"]
    assert "3 engine starts" in done.stdout
    assert {"canary_vl max_num_seqs=1", "canary_vl max_num_seqs=8"} <= set(names(store))
