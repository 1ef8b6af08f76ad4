"""Lists the runs in a store page by page.

All this runs in the process that imports MLflow (runner/tracking/sender.py).
"""

from __future__ import annotations

import json
import math
from typing import Any

from runner.channel.sender import ListRuns
from runner.tracking.records import KEY
from runner.tracking.stored import LEFT_OUT

PAGE = 500


def list_runs(wanted: ListRuns) -> tuple[str, ...]:
    """Return the next page's token (empty after the last), and a JSON object for each run."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=wanted.uri)
    experiments: list[str] = []
    token = None
    while True:
        page = client.search_experiments(page_token=token)
        experiments += [each.experiment_id for each in page]
        token = page.token
        if not token:
            break
    if not experiments:
        return ("",)
    found = client.search_runs(
        experiments,
        f"tags.{KEY} LIKE '%' AND attributes.start_time >= {wanted.since_ms}",
        max_results=PAGE,
        order_by=["attributes.start_time ASC"],
        page_token=wanted.token or None,
    )
    return (found.token or "", *(_line(run) for run in found))


def _line(run: Any) -> str:
    metrics = {name: value for name, value in run.data.metrics.items() if math.isfinite(value)}
    tags = {name: text for name, text in run.data.tags.items() if name not in LEFT_OUT}
    return json.dumps(
        {
            "run_id": run.info.run_id,
            "started_ms": run.info.start_time,
            "metrics": metrics,
            "params": run.data.params,
            "tags": tags,
        }
    )
