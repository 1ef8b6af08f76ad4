"""Clients of MLflow's stores; a local store is made when it is first used.

All this runs in the process that imports MLflow (runner/tracking/sender.py).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from runner.tracking.names import in_name

SQLITE = "sqlite:///"


class DeletedError(Exception):
    """The experiment is deleted in MLflow and accepts no runs."""


def client_of(uri: str) -> Any:
    """Return a client of the store, which is made if it is local and missing."""
    from mlflow import MlflowClient

    if uri.startswith(SQLITE):
        _make_store(Path(uri.removeprefix(SQLITE)))
    return MlflowClient(tracking_uri=uri)


def experiment_id_of(client: Any, uri: str, name: str) -> str:
    """Return the id of an experiment, which is made if missing.

    Another process may make it at the same moment.

    Raises:
        DeletedError: if it is deleted in MLflow.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifacts(uri, name)))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise DeletedError(
            f"experiment {name!r} (id {found.experiment_id}) is deleted; restore it, for example "
            f"with: mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    return str(found.experiment_id)


def _artifacts(uri: str, experiment: str) -> str | None:
    """Beside a local store, whatever the working directory is; a server has its own place."""
    if not uri.startswith(SQLITE):
        return None
    store = Path(uri.removeprefix(SQLITE)).resolve()
    return (store.parent / "mlruns" / in_name(experiment)).as_uri()


def _make_store(file: Path) -> None:
    """Made beside its place and linked there whole: several first users would break its tables."""
    if file.exists():
        return
    from mlflow import MlflowClient

    beside = file.with_name(f".{file.name}.{os.getpid()}")
    _unfinished.append(beside)
    try:
        MlflowClient(tracking_uri=f"{SQLITE}{beside}").search_experiments(max_results=1)
        with suppress(FileExistsError):
            os.link(beside, file)
    finally:
        remove_unfinished()


# Stores that are being made.
_unfinished: list[Path] = []


def remove_unfinished() -> None:
    """Remove what is left of stores whose making was interrupted."""
    for file in _unfinished:
        for each in (file, file.with_name(f"{file.name}-journal")):
            each.unlink(missing_ok=True)
