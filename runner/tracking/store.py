"""Clients of MLflow's stores; a local store is made when it is first used.

All this runs in the process that imports MLflow (runner/tracking/sender.py).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

SQLITE = "sqlite:///"


def client_of(uri: str) -> Any:
    """Return a client of the store, which is made if it is local and missing."""
    from mlflow import MlflowClient

    if uri.startswith(SQLITE):
        _make_store(Path(uri.removeprefix(SQLITE)))
    return MlflowClient(tracking_uri=uri)


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
