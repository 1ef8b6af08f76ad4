"""Whether MLflow's store can be used: a local one must be now, a server may be away."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

from runner.config import TrackingConfig

SERVER_TIMEOUT_S = 3.0


def problems(tracking: TrackingConfig) -> list[str]:
    """A local store must be usable now; a server that is away costs a warning later, no result."""
    uri = tracking.uri
    if not tracking.enabled:
        return []
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        return _sqlite_problems(uri)
    try:
        _ = parts.port
    except ValueError as error:
        return [f"tracking.uri={uri}: not an address ({error})"]
    kind = parts.scheme.partition("+")[0]  # postgresql+psycopg2: the driver is SQLAlchemy's
    if kind not in ("http", "https", "postgresql", "mysql", "mssql", "databricks"):
        return [
            f"tracking.uri={uri}: must be sqlite:///FILE or http(s)://HOST (MLflow no longer takes "
            "a directory), or choose tracking=off"
        ]
    return []


def warnings(tracking: TrackingConfig) -> list[str]:
    """A server that does not answer: the run goes on without it."""
    parts = urlsplit(tracking.uri)
    if not tracking.enabled or parts.scheme not in ("http", "https"):
        return []
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=SERVER_TIMEOUT_S).close()
    except OSError as error:
        return [
            f"tracking.uri={tracking.uri}: the server does not answer ({error}); the run "
            "goes on, and its results stay in the run directory"
        ]
    return []


def _sqlite_problems(uri: str) -> list[str]:
    file = Path(uri.removeprefix("sqlite:///"))
    cure = f"move {file} away, set tracking.uri=sqlite:///OTHER.db, or choose tracking=off"
    if not file.exists():
        if file.parent.is_dir() and os.access(file.parent, os.W_OK):
            return []
        return [f"tracking.uri={uri}: cannot create a file in {file.parent}"]
    if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        return [f"tracking.uri={uri}: may not be written; {cure}"]
    try:
        connection = sqlite3.connect(file, timeout=5)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [f"tracking.uri={uri}: {error}; {cure}"]
    return []
