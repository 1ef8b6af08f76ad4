"""A sweep or a suite in MLflow beyond its points: a view of their table, and a summary run.

All this runs in the process that imports MLflow (runner/tracking/sender.py).
"""

from __future__ import annotations

import time
from typing import Any

from runner.channel.sender import SendSummary, ShareView
from runner.tracking import links
from runner.tracking.records import MLFLOW_STATUS
from runner.tracking.store import experiment_id_of


def share_view(view: ShareView) -> str:
    """Store a view with the sweep's columns; return its key."""
    return links.share_view(_client(view.uri), view.experiment_id, view.sweep_id, view.columns)


def send_summary(summary: SendSummary) -> tuple[str, str]:
    """Create or update the run with a sweep's comparison or a suite's result.

    Return the ids of its experiment and of the run. The run's status is that of a run with the
    verdict among its tags.
    """
    client, name = _client(summary.uri), summary.name
    experiment_id = experiment_id_of(client, summary.uri, summary.experiment)
    quote = '"' if "'" in summary.key else "'"
    query = f"tags.{summary.mark} = {quote}{summary.key}{quote}"
    mine = client.search_runs([experiment_id], query)
    for doubled in mine[1:]:
        client.delete_run(doubled.info.run_id)
    if mine:
        run_id = str(mine[0].info.run_id)
        client.update_run(run_id, name=name)
    else:
        made = client.create_run(experiment_id, run_name=name, tags={summary.mark: summary.key})
        run_id = str(made.info.run_id)
    status = "FAILED"
    try:
        for key, value in summary.tags.items():
            client.set_tag(run_id, key, value)
        for key, number in summary.metrics.items():
            client.log_metric(run_id, key, number)
        for file, folder in summary.files.items():
            client.log_artifact(run_id, file, folder or None)
        status = MLFLOW_STATUS.get(summary.tags["verdict"], "FINISHED")
    finally:
        client.set_terminated(run_id, status=status, end_time=int(time.time() * 1000))
    return experiment_id, run_id


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)
