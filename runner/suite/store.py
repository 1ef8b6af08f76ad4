"""A suite's night in MLflow: one page in an experiment of the suite's own."""

from __future__ import annotations

import socket
from pathlib import Path

from runner.channel.sender import SendSummary
from runner.suite import result
from runner.suite.result import SuiteResult
from runner.tracking.names import in_name, line
from runner.tracking.records import user

# The tag of a night's page. Not `suite_id`: a table that is filtered by it shows only the entries.
MARK = "suite_summary"
LONGEST_NOTE = 5000


def experiment(name: str) -> str:
    """Return the experiment that has a suite's nights."""
    return line(f"suite {name}")


def summary(
    found: SuiteResult, key: str, uri: str, note: str, files: tuple[Path, ...]
) -> SendSummary:
    """Return the request that creates or updates the night's page, which is found by `key`."""
    directory = files[0].parent.resolve()
    return SendSummary(
        uri=uri,
        experiment=experiment(found.name),
        mark=MARK,
        key=key,
        name=line(f"{found.verdict} {found.name} {found.id}"),
        metrics=_metrics(found),
        tags={
            "mlflow.note.content": note[:LONGEST_NOTE],
            "mlflow.source.name": "python -m runner",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": user(),
            "host": socket.gethostname(),
            "suite_name": found.name,
            "suite_directory": str(directory),
            "verdict": found.verdict,
            "exit_status": str(found.exit_status),
            "reason": found.sentence,
        },
        files={str(file.resolve()): "" for file in files if file.is_file()},
    )


def _metrics(found: result.SuiteResult) -> dict[str, float]:
    """Return the numbers of entries and the value of each, which MLflow draws over the nights."""
    required = found.required
    counts = {
        "entries": float(len(found.entries)),
        "required": float(len(required)),
        "required_passed": float(sum(entry.verdict == "PASSED" for entry in required)),
        "missing": float(sum(entry.missing for entry in found.entries)),
    }
    values = {
        f"entry/{in_name(entry.name)}": entry.shown.value
        for entry in found.entries
        if entry.shown is not None and entry.shown.value is not None
    }
    return counts | values
