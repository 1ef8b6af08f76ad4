"""Links to a sweep's pages in MLflow: run table, charts, comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.tracking import views
from runner.tracking.views import CLASSIC, compact, query, runs_page, server

CHART = {"compareRunsMode": "CHART"}


@dataclass(frozen=True)
class Links:
    """Pages that show exactly a sweep's runs."""

    table: str
    chart: str
    compare: str


def links(
    uri: str,
    experiment_id: str,
    run_ids: Sequence[str],
    sweep_id: str,
    view: str | None = None,
) -> Links:
    """Return the pages on the tracking server, or on `mlflow ui` for a local store.

    `view` is what `share_view` returned: with it the table has the sweep's columns, without
    it the UI's own. Either way it has the sweep's runs, in the order in which they ran.
    """
    # A filter in the address would make the UI ignore the shared view, which has the same filter.
    shown = {"viewStateShareKey": view} if view else _search(sweep_id)
    compared = {"runs": compact(list(run_ids)), "experiments": compact([experiment_id])} | CLASSIC
    return Links(
        table=runs_page(uri, experiment_id, shown),
        chart=runs_page(uri, experiment_id, CHART | shown),
        compare=f"{server(uri)}/#/compare-runs?{query(compared)}",
    )


def share_view(client: Any, experiment_id: str, sweep_id: str, columns: Sequence[str]) -> str:
    """Store the sweep's table as a view of the experiment; return the key for `links`.

    Raises what MLflow raises; the links work without it.
    """
    name = view_name(sweep_id)
    value = views.view(name, _search(sweep_id), columns)
    client.set_experiment_tag(experiment_id, views.view_tag(name), value)
    return views.view_key(name)


def view_name(sweep_id: str) -> str:
    """Return the view's name, the same for a resumed sweep, which replaces its view."""
    return f"sweep {sweep_id}"


def _search(sweep_id: str) -> dict[str, Any]:
    """Runs of the sweep, in the order in which they ran."""
    mark = '"' if "'" in sweep_id else "'"
    return {
        "searchFilter": f"tags.sweep = {mark}{sweep_id}{mark}",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
    }
