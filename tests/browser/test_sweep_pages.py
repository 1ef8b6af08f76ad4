"""What MLflow's pages show of a sweep, at the links that the runner prints."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from runner.tracking.links import Links, links
from tests.browser.sweep import StoredSweep

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.slow

Screenshot = Callable[..., None]
# From left to right: the document has them in another order.
COLUMNS_BEGIN = """wanted => {
    const found = [...document.querySelectorAll('[data-testid^="sort-header-"]')];
    const left = header => header.getBoundingClientRect().left;
    found.sort((one, other) => left(one) - left(other));
    const names = found.map(each => each.innerText.trim()).slice(0, wanted.length);
    return JSON.stringify(names) === JSON.stringify(wanted);
}"""
# Names and values lie in two grids, side by side; a metric's are at the same height.
VALUES_OF = """([metric, points]) => {
    const links = [...document.querySelectorAll('[role=grid] a')];
    const name = links.find(each => each.innerText.trim() === metric)?.parentElement;
    if (!name) return null;
    const level = name.getBoundingClientRect().top;
    const cells = [...document.querySelectorAll('[role=grid] [role=rowgroup] > div')]
        .filter(each => each !== name && each.getBoundingClientRect().top === level)
        .map(each => [each.getBoundingClientRect().left, each.innerText.trim()])
        .sort((one, other) => one[0] - other[0]);
    return cells.length === points ? cells.map(each => each[1]) : null;
}"""


def cell(page: Page, run_id: str, column: str) -> Locator:
    return page.locator(f'[row-id="{run_id}"] [col-id="{column}"]')


def shows_exactly(page: Page, sweep: StoredSweep) -> None:
    """The table has the sweep's runs and no other, in the order in which they ran."""
    from playwright.sync_api import expect

    rows = page.locator(".ag-center-cols-container [role=row]")
    expect(rows).to_have_count(len(sweep.points))
    expect(page.get_by_text(re.compile(rf"^{len(sweep.points)} matching runs$"))).to_be_visible()
    for number, run_id in enumerate(sweep.run_ids):
        expect(page.locator(f'[row-id="{run_id}"][row-index="{number}"]').first).to_be_visible()


def test_the_run_table_has_verdict_axes_and_accuracy(
    page: Page, pages: Links, sweep: StoredSweep, screenshot: Screenshot
) -> None:
    from playwright.sync_api import expect

    assert sweep.view is not None
    page.goto(pages.table)
    shows_exactly(page, sweep)
    own = ["verdict", *sweep.axes, sweep.metric]
    page.wait_for_function(COLUMNS_BEGIN, arg=["Run Name", "Created", *own])
    for point in sweep.points:
        expect(page.locator(f'[row-id="{point.run_id}"]').get_by_text(point.name)).to_be_visible()
        expect(cell(page, point.run_id, "tags.`verdict`")).to_have_text(point.verdict)
        for axis in sweep.axes:
            shown = cell(page, point.run_id, f"params.`{axis}`")
            expect(shown).to_have_text(point.params[axis])
        value = cell(page, point.run_id, f"metrics.`{sweep.metric}`")
        expect(value).to_have_text(re.compile(r"^[\d.]+$"))
        assert float(value.inner_text()) == pytest.approx(point.metrics[sweep.metric], abs=1e-3)
    expect(page.get_by_test_id("saved-views-trigger")).to_have_text(f"sweep {sweep.id}")
    page.get_by_label("Hide banner").click()
    screenshot("sweep-table", height=500)


@pytest.mark.exhaustive
def test_without_a_stored_view_the_table_has_the_same_runs(
    page: Page, server: str, sweep: StoredSweep
) -> None:
    plain = links(server, sweep.experiment_id, sweep.run_ids, sweep.id)
    page.goto(plain.table)
    shows_exactly(page, sweep)


def test_the_chart_view_draws_the_accuracy_of_each_point(
    page: Page, pages: Links, sweep: StoredSweep, screenshot: Screenshot
) -> None:
    from playwright.sync_api import expect

    page.goto(pages.chart)
    title = page.get_by_role("heading", name=sweep.metric, exact=True)
    chart = page.get_by_test_id("experiment-view-compare-runs-card").filter(has=title)
    expect(chart.locator(".barlayer .point")).to_have_count(len(sweep.points))
    page.get_by_label("Hide banner").click()
    screenshot("sweep-chart", height=760)


def test_the_compare_page_shows_what_differs_and_the_accuracy(
    page: Page, pages: Links, sweep: StoredSweep, screenshot: Screenshot
) -> None:
    from playwright.sync_api import expect

    # A metric's values are only drawn where the window has room for them.
    width = 500 + 200 * len(sweep.points)
    page.set_viewport_size({"width": width, "height": 1300})
    page.goto(pages.compare)
    title = page.get_by_text(f"Comparing {len(sweep.points)} Runs from 1 Experiment")
    expect(title).to_be_visible()

    page.get_by_label("Parameters - Show diff only").click()
    section = page.locator("tbody:visible").filter(
        has=page.get_by_role("rowheader", name=sweep.axes[0], exact=True)
    )
    rows = section.get_by_role("row")
    expect(rows.get_by_role("rowheader")).to_have_text(sorted(sweep.axes))
    for axis in sweep.axes:
        named = page.get_by_role("rowheader", name=axis, exact=True)
        values = rows.filter(has=named).get_by_role("cell")
        expect(values).to_have_text([point.params[axis] for point in sweep.points])

    found = page.wait_for_function(VALUES_OF, arg=[sweep.metric, len(sweep.points)])
    shown = [float(text) for text in found.json_value()]
    assert shown == pytest.approx([point.metrics[sweep.metric] for point in sweep.points], abs=1e-3)
    page.get_by_role("button", name="Run details").click()
    title.scroll_into_view_if_needed()
    screenshot("sweep-compare", height=1310, width=width)


@pytest.mark.exhaustive
def test_the_report_opens(
    page: Page, server: str, sweep: StoredSweep, screenshot: Screenshot
) -> None:
    from playwright.sync_api import expect

    worst = next((each for each in sweep.points if each.verdict == "FAILED"), sweep.points[0])
    page.goto(artifact(server, sweep, worst.run_id, "report.md"))
    heading = page.get_by_role("heading", name=re.compile(rf": {worst.verdict}$"))
    expect(heading).to_be_visible()
    task, _, metric = sweep.metric.partition("/")
    row = page.get_by_role("row").filter(has_text=task).filter(has_text=metric).first
    expect(row).to_contain_text(f"{worst.metrics[sweep.metric]:.4f}")
    screenshot("sweep-report", height=800)


@pytest.mark.exhaustive
def test_the_figure_opens(
    page: Page, server: str, sweep: StoredSweep, screenshot: Screenshot
) -> None:
    from playwright.sync_api import expect

    page.goto(artifact(server, sweep, sweep.figure_run, sweep.figure))
    picture = page.get_by_role("img", name=sweep.figure).first
    expect(picture).to_be_attached()
    page.wait_for_function(
        "name => [...document.images].some(each => each.alt === name && each.naturalWidth > 100)",
        arg=sweep.figure,
    )
    screenshot("sweep-figure", height=800)


def artifact(server: str, sweep: StoredSweep, run_id: str, path: str) -> str:
    run = f"{server}/#/experiments/{sweep.experiment_id}/runs/{run_id}"
    return f"{run}/artifacts/{path}?workflowType=machine_learning"
