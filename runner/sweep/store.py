"""The comparison in MLflow: a summary run and links to the runs of all points."""

from __future__ import annotations

from dataclasses import dataclass

from runner.rundir import read_json, write_json
from runner.sweep.summary import Sweep
from runner.tracking.links import Links, links
from runner.tracking.metrics import metric_name
from runner.tracking.names import line
from runner.tracking.records import Begun
from runner.tracking.tracked import TrackedRun

# The tag of the summary run. Not `sweep`: a table that is filtered by it shows only the points.
SUMMARY = "sweep_summary"
# Which comparison was recorded, and where.
RECEIPT = "mlflow.json"


@dataclass(frozen=True)
class Place:
    """An experiment and the points recorded there."""

    uri: str
    experiment: str
    experiment_id: str
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class Receipt:
    """mlflow.json: the runs in the recorded comparison."""

    places: tuple[Place, ...]


def places(sweep: Sweep) -> tuple[Place, ...]:
    """Return the experiments that contain points: one, or one per task swept over."""
    found: dict[tuple[str, str], list[TrackedRun]] = {}
    for point in sweep.points:
        if point.tracked is not None:
            key = (point.tracked.uri, point.tracked.experiment_id)
            found.setdefault(key, []).append(point.tracked)
    return tuple(
        Place(uri, runs[0].experiment, experiment_id, tuple(run.run_id for run in runs))
        for (uri, experiment_id), runs in found.items()
    )


def shown(place: Place, sweep: Sweep, view: str | None = None) -> Links:
    return links(place.uri, place.experiment_id, place.run_ids, sweep.id, view)


def is_recorded(sweep: Sweep) -> bool:
    """Return whether MLflow has the comparison of its current points."""
    file = sweep.directory / RECEIPT
    if not file.is_file():
        return not places(sweep)
    try:
        receipt: Receipt = read_json(file, Receipt)
    except ValueError:  # cut short: it is written anew
        return False
    return receipt.places == places(sweep)


def note_recorded(sweep: Sweep) -> None:
    write_json(sweep.directory / RECEIPT, Receipt(places(sweep)))


def columns(sweep: Sweep) -> list[str]:
    """Return the columns of the run table: verdict, axes, metrics and times."""
    params = _params(sweep)
    columns = ["tags.verdict"]
    for axis in sweep.axes:
        parts = axis.key.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts))]
        columns += [f"params.{end}" for end in ends if end in params][:1]
    for metric in sweep.compared:
        measured = [each for p in sweep.points if (each := p.measured(metric)) is not None]
        if measured:
            name = metric_name(measured[0])
            columns += [f"metrics.{name}", f"metrics.{name}_stderr", f"metrics.{name}_difference"]
    return [*columns, "metrics.perf/evaluate_s", "metrics.perf/output_tokens_per_s"]


def run_name(sweep: Sweep) -> str:
    """Return `FAILED sweep 2026-11-22/22-10-11 (4 points: 3 PASSED, 1 FAILED)`, always English."""
    points = "1 point" if len(sweep.points) == 1 else f"{len(sweep.points)} points"
    ended = ", ".join(f"{count} {state}" for state, count in sweep.counts().items())
    return line(f"{sweep.worst} sweep {sweep.id} ({points}: {ended})")


def metrics_of(sweep: Sweep) -> dict[str, float]:
    """Return the number of points and passes, and the range of each metric."""
    counts = sweep.counts()
    found = {
        "points": float(len(sweep.points)),
        "points_passed": float(counts.get("PASSED", 0)),
        "points_failed": float(counts.get("FAILED", 0)),
    }
    for metric in sweep.compared:
        measured = [each for p in sweep.points if (each := p.measured(metric)) is not None]
        values = [each.value for each in measured if each.value is not None]
        if values:
            name = metric_name(measured[0])
            found |= {f"{name}_lowest": min(values), f"{name}_highest": max(values)}
    return found


def _params(sweep: Sweep) -> set[str]:
    """The names of what a point is recorded with."""
    for point in sweep.points:
        if point.tracked is not None and point.files.tracking.is_file():
            begun: Begun = read_json(point.files.tracking, Begun)
            return set(begun.params)
    return set()
