"""A suite's index.html in a real browser, wide and narrow, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from runner.suite.finish import finish
from tests.suites import Played, night, right
from tests.sweeps import Found

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

TASKS = ("gsm8k", "ceval-valid", "mmmu_val")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six models and three tasks over two nights, with a failure and an entry that did not run."""
    for day, correct in ((1, 81), (2, 79)):
        played = [
            Played(
                f"model_{m}_{task}", Found(right(correct), task=task), model=f"model_{m}", task=task
            )
            for m in range(6)
            for task in TASKS[: 1 + m % 3]
        ]
        played[2] = Played("bad", Found(right(55)), "advisory", "model_1", "gsm8k")
        played.append(Played("lost", model="a_model_with_a_name_that_is_far_too_long_for_a_column"))
        root = tmp_path_factory.getbasetemp() / "nights"
        directory = night(root, played, f"2026-11-0{day}", 1000.0 * day)
        finish(directory, Console(quiet=True))
    return directory / "index.html"


@pytest.mark.parametrize("width", [1400, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_and_breaks_no_policy(
    chromium: Browser, index: Path, width: int, scheme: str
) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(index.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == [] and requested == [index.as_uri()]
    # The sentence and the first row of the matrix can be seen without scrolling.
    assert page.locator(".matrix .cell").first.bounding_box()["y"] < 700  # type: ignore[index]
    page.close()


def test_a_cell_leads_to_the_report_or_to_the_reason(chromium: Browser, index: Path) -> None:
    page = chromium.new_page()
    page.goto(index.as_uri())
    page.locator("a.cell", has_text="NOT RUN").click()
    assert page.url.endswith("#entry-12")
    assert page.locator("a.cell", has_text="bad").get_attribute("href") == "2/report.md"
    page.close()
