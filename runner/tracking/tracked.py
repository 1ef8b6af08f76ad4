"""Where MLflow keeps a run that was sent, and the page that shows it."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class TrackedRun:
    """Where MLflow keeps the run."""

    uri: str
    experiment: str
    experiment_id: str
    run_id: str


def run_page(tracked: TrackedRun) -> str:
    """The run's page: on the server, or on the UI that `mlflow ui` starts for a local store."""
    server = tracked.uri if tracked.uri.startswith("http") else "http://127.0.0.1:5000"
    return (
        f"{server.rstrip('/')}/#/experiments/{quote(tracked.experiment_id)}"
        # Without it the UI opens its GenAI view.
        f"/runs/{quote(tracked.run_id)}?workflowType=machine_learning"
    )


def ui_command(uri: str) -> str:
    """What shows a local store to this machine alone, whatever MLFLOW_HOST says."""
    words = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    return shlex.join([sys.executable, *words])


def needed_command(uri: str) -> str:
    """What must run for `run_page` to be there: nothing but the server where there is one."""
    return "" if uri.startswith("http") else ui_command(uri)
