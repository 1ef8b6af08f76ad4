"""A run directory, sent: the only module that imports MLflow."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from runner.config import RunConfig
from runner.environment import Environment
from runner.outcome import Outcome
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json
from runner.tracking.records import in_name, metrics, parameters, tags
from runner.tracking.tracked import TrackedRun
from runner.verdict import Status, Verdict

MLFLOW_STATUS = {Status.ERROR: "FAILED", Status.INTERRUPTED: "KILLED"}
# MLflow's own defaults wait four minutes for a server that is away.
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def track(
    run: RunDirectory,
    config: RunConfig,
    plan: Plan,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
    started_ms: int,
    ended_ms: int,
) -> TrackedRun:
    """Record parameters, metrics, tags and the whole directory; raises what MLflow raises."""
    for name, value in IMPATIENT.items():
        os.environ.setdefault(name, value)
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    # The first use of a store reports every table that it creates.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)

    client = mlflow.MlflowClient(tracking_uri=config.tracking.uri)
    experiment = config.tracking.experiment or "+".join(config.task.names)
    experiment_id = experiment_id_of(
        client, experiment, artifact_location(config.tracking.uri, experiment)
    )
    created = client.create_run(
        experiment_id,
        start_time=started_ms,
        run_name=f"{plan.model} {config.sweep.point or plan.parallel_mode}",
    )
    run_id = created.info.run_id
    labels = tags(run, plan, environment, outcome, verdict)
    if config.sweep.id is not None:
        labels["sweep"] = config.sweep.id
    try:
        client.log_batch(
            run_id,
            metrics=[
                Metric(name, value, ended_ms, 0)
                for name, value in metrics(outcome, verdict).items()
            ],
            params=[Param(k, v) for k, v in parameters(config, plan).items()],
            tags=[RunTag(name, value) for name, value in labels.items()],
        )
        client.log_artifacts(run_id, str(run.path))
    except BaseException:
        client.set_terminated(run_id, status="FAILED", end_time=ended_ms)
        raise
    client.set_terminated(
        run_id, status=MLFLOW_STATUS.get(verdict.status, "FINISHED"), end_time=ended_ms
    )
    return TrackedRun(config.tracking.uri, experiment, experiment_id, run_id)


def artifact_location(uri: str, experiment: str) -> str | None:
    """Beside a local store, whatever the working directory is; a server has its own place."""
    if not uri.startswith("sqlite:///"):
        return None
    store = Path(uri.removeprefix("sqlite:///")).resolve()
    return (store.parent / "mlruns" / in_name(experiment)).as_uri()


def experiment_id_of(client: Any, name: str, artifact_location: str | None) -> str:
    """The experiment's id, made if missing; another process may make it at the same moment."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifact_location))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def retire(run: RunDirectory) -> None:
    """A run that another attempt replaces no longer counts as its sweep's point.

    A store that is away is left as it is: the comparison reads directories, not MLflow.
    """
    if not run.tracked.exists():
        return
    tracked: TrackedRun = read_json(run.tracked, TrackedRun)
    for name, value in IMPATIENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=tracked.uri)
    with suppress(Exception):
        sweep = client.get_run(tracked.run_id).data.tags["sweep"]
        client.set_tag(tracked.run_id, "sweep_earlier", sweep)
        client.delete_tag(tracked.run_id, "sweep")
