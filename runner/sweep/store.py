"""The comparison in MLflow: one summary run beside the points' runs, and links to all of them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.sweep.links import Links, links, share_view
from runner.sweep.summary import MetricId, Sweep, SweptPoint
from runner.tracking.records import metrics
from runner.tracking.sender import IMPATIENT
from runner.tracking.tracked import TrackedRun

# Not `sweep`: a table that is filtered by it shows the points and nothing else.
TAG = "sweep_summary"
# What MLflow keeps of a description.
LONGEST_NOTE = 5000


@dataclass(frozen=True)
class Place:
    """An experiment of a store, and the points that are recorded there."""

    uri: str
    experiment: str
    experiment_id: str
    run_ids: tuple[str, ...]


def places(sweep: Sweep) -> tuple[Place, ...]:
    """Where the sweep's points are recorded: one experiment, or one for each task swept over."""
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


def share(place: Place, sweep: Sweep) -> str | None:
    """Columns that matter, kept in the store as a view; raises what MLflow raises."""
    client = _client(place.uri)
    known = set(client.get_run(place.run_ids[0]).data.params)
    return share_view(client, place.experiment_id, sweep.id, _columns(sweep, known))


def record(place: Place, sweep: Sweep, note: str, files: Iterable[Path]) -> str:
    """Make the summary run, or bring an earlier one up to date; raises what MLflow raises."""
    client = _client(place.uri)
    mine = client.search_runs([place.experiment_id], f"tags.{TAG} = '{sweep.id}'", max_results=1)
    if mine:
        run_id = str(mine[0].info.run_id)
    else:
        made = client.create_run(
            place.experiment_id,
            run_name=f"sweep {sweep.id}",
            tags={
                TAG: sweep.id,
                "mlflow.source.name": "python -m runner --multirun",
                "mlflow.source.type": "LOCAL",
                "mlflow.user": os.environ.get("USER") or str(os.getuid()),
            },
        )
        run_id = str(made.info.run_id)
    status = "FAILED"
    try:
        client.set_tag(run_id, "mlflow.note.content", note[:LONGEST_NOTE])
        client.set_tag(run_id, "sweep_directory", str(sweep.directory.resolve()))
        for file in files:
            below = file.parent.relative_to(sweep.directory).as_posix()
            client.log_artifact(run_id, str(file), None if below == "." else below)
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status=status, end_time=int(time.time() * 1000))
    return run_id


def _columns(sweep: Sweep, params: set[str]) -> list[str]:
    """As a reader wants them: verdict, what was swept, what it scored, how fast."""
    columns = ["tags.verdict"]
    for axis in sweep.axes:
        parts = axis.key.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts))]
        columns += [f"params.{end}" for end in ends if end in params][:1]
    for metric in sweep.compared:
        name = next((_name(p, metric) for p in sweep.points if p.measured(metric)), None)
        if name is not None:
            columns += [f"metrics.{name}", f"metrics.{name}_stderr", f"metrics.{name}_difference"]
    return [*columns, "metrics.perf/evaluate_s", "metrics.perf/output_tokens_per_s"]


def _name(point: SweptPoint, metric: MetricId) -> str | None:
    """What the metric is called in MLflow."""
    if point.outcome is None or point.verdict is None:
        return None
    only = replace(point.verdict, metrics=(point.metrics[metric],))
    return next(iter(metrics(point.outcome, only)), None)


def _client(uri: str) -> Any:
    for name, value in IMPATIENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return mlflow.MlflowClient(tracking_uri=uri)
