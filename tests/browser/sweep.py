"""A sweep as MLflow holds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.tracking.links import view_name
from runner.tracking.views import view_key, view_tag


@dataclass(frozen=True)
class Point:
    """What MLflow's pages should show of a point."""

    run_id: str
    name: str
    verdict: str
    params: dict[str, str]
    metrics: dict[str, float]


@dataclass(frozen=True)
class StoredSweep:
    """A sweep in an MLflow store, as the tests need it; `view` is its stored view's key."""

    uri: str
    id: str
    experiment_id: str
    points: tuple[Point, ...]
    axes: tuple[str, ...]
    metric: str
    figure_run: str
    figure: str
    view: str | None

    @property
    def run_ids(self) -> list[str]:
        return [point.run_id for point in self.points]


def stored(uri: str, sweep_id: str, axes: tuple[str, ...], metric: str) -> StoredSweep:
    """Read a sweep back from its store: `axes` are parameters, `metric` is what it measured."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(
        experiments, f"tags.sweep = '{sweep_id}'", order_by=["attributes.start_time ASC"]
    )
    points = [run for run in runs if set(axes) <= set(run.data.params)]
    pictures = (
        (run.info.run_id, path)
        for run in client.search_runs(experiments)
        for path in _artifacts(client, run.info.run_id)
        if path.endswith(".png")
    )
    figure_run, figure = next(pictures)
    experiment = client.get_experiment(points[0].info.experiment_id)
    return StoredSweep(
        uri=uri,
        id=sweep_id,
        experiment_id=experiment.experiment_id,
        points=tuple(
            Point(
                run.info.run_id,
                run.info.run_name,
                run.data.tags["verdict"],
                run.data.params,
                run.data.metrics,
            )
            for run in points
        ),
        axes=axes,
        metric=metric,
        figure_run=figure_run,
        figure=figure,
        view=view_key(view_name(sweep_id))
        if view_tag(view_name(sweep_id)) in experiment.tags
        else None,
    )


def _artifacts(client: Any, run_id: str, folder: str | None = None) -> Iterator[str]:
    for each in client.list_artifacts(run_id, folder):
        if each.is_dir:
            yield from _artifacts(client, run_id, each.path)
        else:
            yield each.path
