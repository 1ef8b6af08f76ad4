"""Views of an experiment's run table: which runs, in which order, with which columns.

The UI keeps what a table shows in an experiment's tag `mlflow.sharedViewState.<key>` and opens it
by `viewStateShareKey=<key>`. Since views have names (MLflow 3.17) they also stand in a list above
the table.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

LOCAL_UI = "http://127.0.0.1:5000"
# What every server takes in an experiment's tag; newer ones take more.
TAG_LENGTH = 5000
# Without it the UI opens its GenAI view.
CLASSIC = {"workflowType": "machine_learning"}
# The table's own columns: those that are chosen stand between the run's name and the times.
FIRST_COLUMNS = ("attributes.`Run Name`",)
LAST_COLUMNS = ("runDateAndNestInfo", "duration")
COLUMN_WIDTH, NAME_WIDTH = 120, 280
# The view of all runs of an experiment.
ALL_RUNS = "verdicts"
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
NEWEST_FIRST = {"searchFilter": "", "orderByKey": "attributes.start_time", "orderByAsc": False}


def view_key(name: str) -> str:
    """Return the view's key; storing under the same name replaces it."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def view_tag(name: str) -> str:
    """Return the experiment's tag that holds the view."""
    return f"mlflow.sharedViewState.{view_key(name)}"


def view(name: str, search: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Return the tag's value, readable by earlier and later MLflow servers.

    `columns` are named as in MLflow's filters: `tags.verdict`, `params.tp`, `metrics.mmmu_val/acc`.
    """
    shown = [_column(name) for name in columns]
    state = (
        DEFAULTS
        | dict(search)
        | {
            "runsHiddenMode": "SHOW_ALL",  # else charts show ten runs
            "selectedColumns": shown,
            "columnOrder": [*FIRST_COLUMNS, *shown, *LAST_COLUMNS],
            "columnWidths": dict.fromkeys(FIRST_COLUMNS, NAME_WIDTH)
            | dict.fromkeys(shown, COLUMN_WIDTH),
        }
    )
    packed = "deflate;" + base64.b64encode(zlib.compress(compact(state).encode())).decode()
    now = int(time.time() * 1000)
    named = compact({"name": name, "createdAt": now, "updatedAt": now, "state": packed} | state)
    # Every server reads the packed form too, which has no name.
    return named if len(named) <= TAG_LENGTH else packed


def share_all_runs(client: Any, experiment_id: str, columns: Sequence[str]) -> None:
    """Store the view of all runs, unless the experiment has it with these columns.

    Raises what MLflow raises.
    """
    value = view(ALL_RUNS, NEWEST_FIRST, columns)
    tags = client.get_experiment(experiment_id).tags
    if _state(tags.get(view_tag(ALL_RUNS), "")) != _state(value):
        client.set_experiment_tag(experiment_id, view_tag(ALL_RUNS), value)


def all_runs_page(uri: str, experiment_id: str) -> str:
    """Return the page with the view of all runs."""
    return runs_page(uri, experiment_id, {"viewStateShareKey": view_key(ALL_RUNS)})


def runs_page(uri: str, experiment_id: str, shown: Mapping[str, Any]) -> str:
    """An experiment's run table, on the tracking server or on the UI that `mlflow ui` starts for a
    local store."""
    address = f"{server(uri)}/#/experiments/{quote(experiment_id)}/runs"
    return f"{address}?{query(CLASSIC | dict(shown))}"


def server(uri: str) -> str:
    """Return the address of the UI."""
    return (uri if uri.startswith("http") else LOCAL_UI).rstrip("/")


def query(values: Mapping[str, Any]) -> str:
    """Return the query string of an address."""
    texts = {key: str(value).lower() if value is True else value for key, value in values.items()}
    return urlencode(texts, quote_via=quote)


def compact(value: Any) -> str:
    """Return JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _column(name: str) -> str:
    """`params.tp` as the UI's table calls it."""
    kind, _, key = name.partition(".")
    return f"{kind}.`{key}`"


def _state(value: str) -> str:
    """What a stored view shows, without the time at which it was stored."""
    return str(json.loads(value)["state"]) if value.startswith("{") else value
