"""Whether MLflow's store can be used: a local one must be now, a server may be away."""

from __future__ import annotations

import os
import sqlite3
import threading
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from runner.config.schema import TrackingConfig
from runner.errors import cause

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
    """A server that cannot be used: the run goes on without it."""
    if not tracking.enabled or urlsplit(tracking.uri).scheme not in ("http", "https"):
        return []
    complaint = _complaint(tracking.uri)
    if not complaint:
        return []
    return [
        f"tracking.uri={tracking.uri}: {complaint}; the run goes on, and what it finds stays in "
        "its directory until `python -m runner.sync` sends it"
    ]


@cache  # the points of a sweep are looked at one by one
def _complaint(uri: str) -> str:
    """What is wrong with a server, in no more than SERVER_TIMEOUT_S, however slowly it answers."""
    found = [_silent()]

    def ask() -> None:
        found[0] = _asked(uri)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SERVER_TIMEOUT_S)
    return found[0]


def _asked(uri: str) -> str:
    """Ask as MLflow does: with its credentials, through the same proxies."""
    import requests

    given = os.environ
    name, password = (given.get(f"MLFLOW_TRACKING_{each}") for each in ("USERNAME", "PASSWORD"))
    token = given.get("MLFLOW_TRACKING_TOKEN")
    insecure = given.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    try:
        answer = requests.get(
            f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search",
            params={"max_results": "1"},
            auth=(name, password) if name and password else None,
            headers={"Authorization": f"Bearer {token}"} if token and not password else {},
            verify=given.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or not insecure,
            timeout=SERVER_TIMEOUT_S,
        )
        if answer.status_code in (401, 403):
            return (
                f"the server refuses these credentials (status {answer.status_code}); see "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            )
        if answer.status_code != 200:
            return f"the server answers with status {answer.status_code}"
        return "" if isinstance(answer.json(), dict) else "what answers there is not MLflow"
    except requests.Timeout:
        return _silent()
    except requests.JSONDecodeError:
        return "what answers there is not MLflow"
    except requests.RequestException as error:
        return f"the server does not answer ({cause(error) or type(error).__name__})"


def _silent() -> str:
    return f"the server does not answer within {SERVER_TIMEOUT_S:g} s"


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
