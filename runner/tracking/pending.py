"""Find and upload runs that are on disk but not in MLflow yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.errors import cause
from runner.rundir import RunDirectory, read_json
from runner.tracking.courier import Busy, Courier
from runner.tracking.records import Begun, read_record
from runner.tracking.sender_process import NotSent
from runner.tracking.tracked import TrackedRun

# A store that has refused this many runs in a row is asked no more.
PATIENCE = 2
# In a folder of this name, MLflow keeps a run's files: `mlruns/gsm8k/<run id>/artifacts`.
MLFLOW_RUN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Delivery:
    """The result of an upload; `problem` gives the reason if it failed."""

    run: RunDirectory
    uri: str
    tracked: TrackedRun | None = None
    problem: str = ""
    busy: bool = False


def pending(directory: Path) -> list[RunDirectory]:
    """Return runs below the directory that were not uploaded, the earliest first.

    A file that cannot be read is no reason to leave the others: it comes last.
    """
    found = [RunDirectory(file.parent) for file in own(directory.rglob("tracking.json"))]
    return sorted((run for run in found if not run.tracked.exists()), key=_began)


def own(files: Iterable[Path]) -> list[Path]:
    """Keep only files of the runs themselves; MLflow's copies may lie below as well."""
    places = {file: file.parent.resolve() for file in files}
    return [
        file
        for file, place in places.items()
        if place.name != "artifacts" or not MLFLOW_RUN.fullmatch(place.parent.name)
    ]


def _began(run: RunDirectory) -> tuple[bool, int, str]:
    try:
        begun: Begun = read_json(run.tracking, Begun)
    except (OSError, ValueError):
        return True, 0, str(run.path)
    return False, begun.started_ms, str(run.path)


def deliver(
    courier: Courier, runs: Iterable[RunDirectory], timeout_s: float | None = None
) -> Iterator[Delivery]:
    """Upload runs one by one with a timeout each; skip a store after two failures.

    The deliveries come as they happen.
    """
    failures: dict[str, int] = {}
    for run in runs:
        try:
            begun = read_record(run).begun
        except (OSError, ValueError) as error:
            why = cause(error) or "a file is truncated, or from another version of the runner"
            yield Delivery(run, "", problem=why)
            continue
        if failures.get(begun.uri, 0) >= PATIENCE:
            yield Delivery(
                run, begun.uri, problem="not tried: earlier uploads to this store failed"
            )
            continue
        try:
            tracked = courier.send(run, timeout_s or begun.timeout_s)
        except Busy as error:
            yield Delivery(run, begun.uri, problem=str(error), busy=True)
        except NotSent as error:
            failures[begun.uri] = failures.get(begun.uri, 0) + 1
            yield Delivery(run, begun.uri, problem=str(error))
        else:
            failures[begun.uri] = 0
            yield Delivery(run, begun.uri, tracked)
