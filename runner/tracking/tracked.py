"""An uploaded run's location in MLflow, and its page."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class TrackedRun:
    """The run's location in MLflow."""

    uri: str
    experiment: str
    experiment_id: str
    run_id: str


def run_page(tracked: TrackedRun) -> str:
    """Return the run's page on the server, or on `mlflow ui` for a local store."""
    server = tracked.uri if tracked.uri.startswith("http") else "http://127.0.0.1:5000"
    return (
        f"{server.rstrip('/')}/#/experiments/{quote(tracked.experiment_id)}"
        # Without it the UI opens its GenAI view.
        f"/runs/{quote(tracked.run_id)}?workflowType=machine_learning"
    )


def ui_command(uri: str) -> str:
    """Return the command that serves a local store only to this machine."""
    words = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    return shlex.join([sys.executable, *words])


def needed_command(uri: str) -> str:
    """Return the command needed for `run_page`; empty if there is a server."""
    return "" if uri.startswith("http") else ui_command(uri)
