"""A sweep in MLflow beyond its points: a view of their table, and a summary run.

All this runs in the process that imports MLflow (runner/tracking/sender.py).
"""

from __future__ import annotations

import time
from typing import Any

from runner.tracking import links
from runner.tracking.records import MLFLOW_STATUS

# Not `sweep`: a table that is filtered by it shows the points and nothing else.
SUMMARY = "sweep_summary"


def share_view(uri: str, experiment_id: str, sweep_id: str, columns: list[str]) -> str:
    """Store a view with the sweep's columns; return its key."""
    return links.share_view(_client(uri), experiment_id, sweep_id, columns)


def send_summary(
    uri: str,
    experiment_id: str,
    sweep_id: str,
    name: str,
    metrics: dict[str, float],
    tags: dict[str, str],
    files: dict[str, str],
) -> str:
    """Create or update the run with a sweep's comparison; return its id.

    `files` are paths on disk and the folders they are shown in. Its status is that of a run with
    the verdict among its tags.
    """
    client = _client(uri)
    mark = '"' if "'" in sweep_id else "'"
    mine = client.search_runs([experiment_id], f"tags.{SUMMARY} = {mark}{sweep_id}{mark}")
    for doubled in mine[1:]:
        client.delete_run(doubled.info.run_id)
    if mine:
        run_id = str(mine[0].info.run_id)
        client.update_run(run_id, name=name)
    else:
        made = client.create_run(experiment_id, run_name=name, tags={SUMMARY: sweep_id})
        run_id = str(made.info.run_id)
    status = "FAILED"
    try:
        for key, value in tags.items():
            client.set_tag(run_id, key, value)
        for key, number in metrics.items():
            client.log_metric(run_id, key, number)
        for file, folder in files.items():
            client.log_artifact(run_id, file, folder or None)
        status = MLFLOW_STATUS.get(tags["verdict"], "FINISHED")
    finally:
        client.set_terminated(run_id, status=status, end_time=int(time.time() * 1000))
    return run_id


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)
