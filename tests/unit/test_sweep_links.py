"""Links to a sweep in MLflow's UI, and the view that they open."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import pytest

from runner.tracking.links import Links, links, share_view, view_name
from runner.tracking.views import view_key, view_tag

SWEEP = "2026-11-20/18-02-11"
COLUMNS = ["tags.verdict", "params.tp", "params.max_model_len", "metrics.mmmu_val/acc"]
# As a server up to MLflow 3.17 reads a state; one that lacks any of it breaks 3.10's page.
STATE = {
    "searchFilter": f"tags.sweep = '{SWEEP}'",
    "orderByKey": "attributes.start_time",
    "orderByAsc": True,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "modelVersionFilter": "All Runs",
    "datasetsFilter": [],
    "selectedColumns": [
        "tags.`verdict`",
        "params.`tp`",
        "params.`max_model_len`",
        "metrics.`mmmu_val/acc`",
    ],
    "runsHiddenMode": "SHOW_ALL",
    "runsPinned": [],
    "runsHidden": [],
    "runsExpanded": {},
    "runsVisibilityMap": {},
}


class Experiments:
    """Of MLflow's client, what holds an experiment's tags."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        assert experiment_id == "7"
        self.tags[key] = value


def asked(link: str) -> dict[str, list[str]]:
    return parse_qs(link.partition("?")[2])


def state(value: str) -> dict[str, Any]:
    """What MLflow's UI makes of a tag: an envelope with a name, or the state itself."""
    if value.startswith("{"):
        value = json.loads(value)["state"]
    found: dict[str, Any] = json.loads(
        zlib.decompress(base64.b64decode(value.removeprefix("deflate;")))
    )
    return found


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("sqlite:////tmp/mlflow.db", "http://127.0.0.1:5000"),
        ("http://host:8080/", "http://host:8080"),
        ("https://host/mlflow", "https://host/mlflow"),
    ],
)
def test_links_open_the_server_or_the_local_ui(uri: str, server: str) -> None:
    found = links(uri, "7", ["a", "b"], SWEEP)
    assert found.table.startswith(f"{server}/#/experiments/7/runs?")
    assert found.chart.startswith(f"{server}/#/experiments/7/runs?")
    assert found.compare.startswith(f"{server}/#/compare-runs?")


def test_table_and_chart_are_filtered_by_the_sweep() -> None:
    found = links("", "7", ["a", "b"], SWEEP)
    expected = {
        "workflowType": ["machine_learning"],
        "searchFilter": [f"tags.sweep = '{SWEEP}'"],
        "orderByKey": ["attributes.start_time"],
        "orderByAsc": ["true"],
    }
    assert asked(found.table) == expected
    assert asked(found.chart) == expected | {"compareRunsMode": ["CHART"]}


def test_a_shared_view_brings_its_own_filter() -> None:
    """The UI ignores a view where the address has a filter."""
    found = links("", "7", ["a", "b"], SWEEP, view="abc")
    expected = {"workflowType": ["machine_learning"], "viewStateShareKey": ["abc"]}
    assert asked(found.table) == expected
    assert asked(found.chart) == expected | {"compareRunsMode": ["CHART"]}


def test_the_compare_page_is_asked_for_the_runs_first() -> None:
    """MLflow 3.17 reads the runs only where they come first."""
    found = links("", "7", ["a", "b"], SWEEP)
    assert parse_qsl(found.compare.partition("?")[2]) == [
        ("runs", '["a","b"]'),
        ("experiments", '["7"]'),
        ("workflowType", "machine_learning"),
    ]


@pytest.mark.parametrize("sweep", ["a'b", "a b", "a&b#c", "模型"])
def test_an_odd_id_survives_the_address(sweep: str) -> None:
    found = links("", "7", ["a"], sweep)
    assert isinstance(found, Links)
    assert " " not in found.table and found.table.count("#") == 1
    mark = '"' if "'" in sweep else "'"
    assert asked(found.table)["searchFilter"] == [f"tags.sweep = {mark}{sweep}{mark}"]


def test_a_view_has_a_name_and_the_columns_in_order() -> None:
    client = Experiments()
    key = share_view(client, "7", SWEEP, COLUMNS)
    assert key == view_key(view_name(SWEEP))
    value = client.tags[view_tag(view_name(SWEEP))]
    assert view_tag(view_name(SWEEP)).endswith(f".{key}")
    view = json.loads(value)
    assert view["name"] == f"sweep {SWEEP}"
    assert view["createdAt"] == view["updatedAt"] > 1_700_000_000_000
    assert state(value) == {name: view[name] for name in state(value)}
    assert state(value).items() >= STATE.items()
    order = state(value)["columnOrder"]
    assert order[1:5] == STATE["selectedColumns"]
    widths = state(value)["columnWidths"]
    assert set(widths) == {*STATE["selectedColumns"], "attributes.`Run Name`"}


def test_very_many_columns_are_packed() -> None:
    client = Experiments()
    columns = [f"metrics.task_{number}/exact_match/strict-match" for number in range(100)]
    share_view(client, "7", SWEEP, columns)
    value = client.tags[view_tag(view_name(SWEEP))]
    assert len(value) <= 5000
    assert value.startswith("deflate;")
    assert len(state(value)["selectedColumns"]) == 100


def test_a_sweep_that_goes_on_replaces_its_view() -> None:
    client = Experiments()
    share_view(client, "7", SWEEP, COLUMNS)
    share_view(client, "7", SWEEP, COLUMNS[:2])
    share_view(client, "7", "another", COLUMNS)
    assert set(client.tags) == {view_tag(view_name(SWEEP)), view_tag(view_name("another"))}
    assert len(state(client.tags[view_tag(view_name(SWEEP))])["selectedColumns"]) == 2
