"""Check MLflow's store: a local one must be usable, a server may be unreachable."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner.config.schema import TrackingConfig
from runner.errors import cause

SERVER_TIMEOUT_S = 3.0
# MLflow's words: of an experiment that is in its trash, and of one that there is not yet.
DELETED, NOT_YET = "deleted", "RESOURCE_DOES_NOT_EXIST"

# What MLflow keeps runs in, in a URI's scheme.
KINDS = ("http", "https", "postgresql", "mysql", "mssql", "databricks")
ACCEPTED = (
    "must be sqlite:///FILE, http(s)://HOST, postgresql://…, mysql://…, mssql://… or databricks; "
    "or choose tracking=off"
)


@dataclass(frozen=True)
class Answer:
    """A server's response; `complaint` is empty if it can be used."""

    complaint: str = ""
    experiment_is_deleted: bool = False


def problems(tracking: TrackingConfig, experiment: str = "") -> list[str]:
    """Check that a local store is usable. An unreachable server causes only a warning, later.

    Nothing can be sent to an `experiment` that is deleted, wherever it is.
    """
    uri = tracking.uri
    if not tracking.enabled:
        return []
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        return _sqlite_problems(uri, experiment)
    try:
        _ = parts.port
    except ValueError as error:
        return [f"tracking.uri={uri}: not a valid address ({error})"]
    kind = parts.scheme.partition("+")[0]  # postgresql+psycopg2: the driver is SQLAlchemy's
    if kind not in KINDS and uri != "databricks":
        return [f"tracking.uri={uri}: {_instead(uri)}{ACCEPTED}"]
    if kind in ("http", "https") and _answer(uri, experiment).experiment_is_deleted:
        return [_deleted(experiment, uri)]
    return []


def warnings(tracking: TrackingConfig, experiment: str = "") -> list[str]:
    """Return a warning for a server that cannot be used; the run continues without it."""
    if not tracking.enabled or urlsplit(tracking.uri).scheme not in ("http", "https"):
        return []
    complaint = _answer(tracking.uri, experiment).complaint
    if not complaint:
        return []
    return [
        f"tracking.uri={tracking.uri}: {complaint}; the run continues and keeps its results in its "
        "directory; upload them later with `python -m runner.sync`"
    ]


def _instead(uri: str) -> str:
    """What a user may have meant."""
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", uri):
        return f"write http://{uri}; an address "
    if uri and urlsplit(uri).scheme in ("", "file"):
        return "MLflow no longer takes a directory; an address "
    return ""


def _deleted(experiment: str, uri: str) -> str:
    return (
        f"tracking.experiment={experiment}: this experiment is deleted in {uri}; restore it there, "
        "or set tracking.experiment=OTHER"
    )


@cache  # the points of a sweep are looked at one by one
def _answer(uri: str, experiment: str) -> Answer:
    """What a server says, in no more than SERVER_TIMEOUT_S, however slowly it answers."""
    found = [Answer(_silent())]

    def ask() -> None:
        found[0] = _asked(uri, experiment)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SERVER_TIMEOUT_S)
    return found[0]


def _asked(uri: str, experiment: str) -> Answer:
    """Ask as MLflow does: with its credentials, through the same proxies."""
    import requests

    given = os.environ
    name, password = (given.get(f"MLFLOW_TRACKING_{each}") for each in ("USERNAME", "PASSWORD"))
    token = given.get("MLFLOW_TRACKING_TOKEN")
    insecure = given.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    try:
        answer = requests.get(
            f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name",
            params={"experiment_name": experiment or "Default"},
            auth=(name, password) if name and password else None,
            headers={"Authorization": f"Bearer {token}"} if token and not password else {},
            verify=given.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or not insecure,
            timeout=SERVER_TIMEOUT_S,
        )
        status, content = answer.status_code, _mapping(answer)
    except requests.Timeout:
        return Answer(_silent())
    except requests.RequestException as error:
        return Answer(f"the server is unreachable ({cause(error) or type(error).__name__})")
    if status in (401, 403):
        return Answer(
            f"the server rejects these credentials (status {status}); check "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if status == 200 and content is not None:
        stage = (content.get("experiment") or {}).get("lifecycle_stage")
        return Answer(experiment_is_deleted=stage == DELETED)
    if status == 404 and content is not None and content.get("error_code") == NOT_YET:
        return Answer()
    if status == 200:
        return Answer("the server is not an MLflow server")
    return Answer(f"the server answered with status {status}")


def _mapping(answer: Any) -> dict[str, Any] | None:
    """The JSON object that an answer holds, where it is MLflow's."""
    try:
        content = answer.json()
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _silent() -> str:
    return f"the server did not answer within {SERVER_TIMEOUT_S:g} s"


def _sqlite_problems(uri: str, experiment: str) -> list[str]:
    name = uri.removeprefix("sqlite:///")
    if name == uri or not name:
        return [f"tracking.uri={uri}: no file given; write sqlite:///FILE"]
    file = Path(name)
    cure = f"move {file} away, set tracking.uri=sqlite:///OTHER.db, or choose tracking=off"
    if not file.exists():
        if file.parent.is_dir() and os.access(file.parent, os.W_OK):
            return []
        return [f"tracking.uri={uri}: cannot create a file in {file.parent}"]
    if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        return [f"tracking.uri={uri}: not writable; {cure}"]
    try:
        connection = sqlite3.connect(file, timeout=5)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
            deleted = _is_deleted(connection, experiment)
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [f"tracking.uri={uri}: {error}; {cure}"]
    return [_deleted(experiment, uri)] if deleted else []


def _is_deleted(connection: sqlite3.Connection, experiment: str) -> bool:
    if not connection.execute("PRAGMA table_info(experiments)").fetchone():
        return False  # MLflow has yet to make its tables
    query = "SELECT 1 FROM experiments WHERE name = ? AND lifecycle_stage = ?"
    return connection.execute(query, (experiment, DELETED)).fetchone() is not None
