"""Where MLflow shows a sweep: its run table, its charts, its compare page.

The UI keeps what a table shows (filter, order, columns) in an experiment's tag
`mlflow.sharedViewState.<key>` and opens it by `viewStateShareKey=<key>`. Since views have names
(MLflow 3.17) they also stand in a list above the table.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

LOCAL_UI = "http://127.0.0.1:5000"
# What every server takes in an experiment's tag; newer ones take more.
TAG_LENGTH = 5000
# Without it the UI opens its GenAI view.
CLASSIC = {"workflowType": "machine_learning"}
# The table's own columns: the sweep's stand between the run's name and the times.
FIRST_COLUMNS = ("attributes.`Run Name`",)
LAST_COLUMNS = ("runDateAndNestInfo", "duration")
COLUMN_WIDTH, NAME_WIDTH = 120, 280
# All that a view consists of: MLflow 3.10 breaks down over a state with gaps.
DEFAULTS: dict[str, Any] = {
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "modelVersionFilter": "All Runs",
    "datasetsFilter": [],
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
    "globalLineChartConfig": {
        "xAxisKey": "step",
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
    },
}
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
    """Pages on the tracking server, or on the UI that `mlflow ui` starts for a local store.

    `view` is what `share_view` returned: with it the table has the sweep's columns, without it the
    UI's own. Either way it has the sweep's runs, in the order in which they ran.
    """
    server = (uri if uri.startswith("http") else LOCAL_UI).rstrip("/")
    runs = f"{server}/#/experiments/{quote(experiment_id)}/runs"
    # A filter in the address would make the UI ignore the shared view, which has the same filter.
    shown = {"viewStateShareKey": view} if view else _search(sweep_id)
    compared = {"runs": _compact(list(run_ids)), "experiments": _compact([experiment_id])} | CLASSIC
    return Links(
        table=f"{runs}?{_query(CLASSIC | shown)}",
        chart=f"{runs}?{_query(CLASSIC | CHART | shown)}",
        compare=f"{server}/#/compare-runs?{_query(compared)}",
    )


def share_view(client: Any, experiment_id: str, sweep_id: str, columns: Sequence[str]) -> str:
    """Store the sweep's table as a view of the experiment; the key that `links` takes.

    `columns` are named as in MLflow's filters: `tags.verdict`, `params.tp`, `metrics.mmmu_val/acc`.
    Raises what MLflow raises; the links work without it.
    """
    client.set_experiment_tag(experiment_id, view_tag(sweep_id), _view(sweep_id, columns))
    return view_key(sweep_id)


def view_key(sweep_id: str) -> str:
    """Always the same for a sweep: one that goes on replaces its view."""
    return hashlib.sha256(f"sweep {sweep_id}".encode()).hexdigest()[:32]


def view_tag(sweep_id: str) -> str:
    """The experiment's tag that holds the view."""
    return f"mlflow.sharedViewState.{view_key(sweep_id)}"


def _view(sweep_id: str, columns: Sequence[str]) -> str:
    """The tag's value: the state as earlier servers read it, and with a name for later ones."""
    shown = [_column(name) for name in columns]
    state = (
        DEFAULTS
        | _search(sweep_id)
        | {
            "runsHiddenMode": "SHOW_ALL",  # else charts show ten runs
            "selectedColumns": shown,
            "columnOrder": [*FIRST_COLUMNS, *shown, *LAST_COLUMNS],
            "columnWidths": dict.fromkeys(FIRST_COLUMNS, NAME_WIDTH)
            | dict.fromkeys(shown, COLUMN_WIDTH),
        }
    )
    packed = "deflate;" + base64.b64encode(zlib.compress(_compact(state).encode())).decode()
    now = int(time.time() * 1000)
    name = {"name": f"sweep {sweep_id}", "createdAt": now, "updatedAt": now, "state": packed}
    named = _compact(name | state)
    # Every server reads the packed form too, which has no name.
    return named if len(named) <= TAG_LENGTH else packed


def _search(sweep_id: str) -> dict[str, Any]:
    """Runs of the sweep, in the order in which they ran."""
    mark = '"' if "'" in sweep_id else "'"
    return {
        "searchFilter": f"tags.sweep = {mark}{sweep_id}{mark}",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
    }


def _column(name: str) -> str:
    """`params.tp` as the UI's table calls it."""
    kind, _, key = name.partition(".")
    return f"{kind}.`{key}`"


def _query(values: dict[str, Any]) -> str:
    texts = {key: str(value).lower() if value is True else value for key, value in values.items()}
    return urlencode(texts, quote_via=quote)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
