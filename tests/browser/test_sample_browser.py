"""The list of 20,000 samples in report.html and compare.html, in a real browser."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.compare.__main__ import main as compare
from runner.config.verdict import VerdictConfig
from runner.environment import Environment
from runner.lm.sample_table import SampleRow, sample_table, write_samples
from runner.outcome import Outcome
from runner.plan import Plan
from runner.present import browser as present
from runner.present import packed
from runner.report.run_page import render
from runner.rundir import RunDirectory, read_json, write_atomic, write_json
from runner.verdict import judge
from runner.view.pages import read_pages
from runner.view.server import Server, listen
from tests.compared import row, write_run
from tests.many_samples import write_many

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

ENVIRONMENT = Environment(
    packages={}, commits={}, toolkit={}, python="3.11", os="Linux", cpu="", cores=2,
    platform="cpu", devices=(), project_commit=None, project_dirty=None, pip_freeze=(),
)  # fmt: skip
N = 20_000
HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)"> \u202egnp.exe'
# Places of `write_many`: question n is document n // 2 of the subject n % 2.
WRITTEN, NEEDLE = 5_000, 17_001
SPECIAL = {WRITTEN: HOSTILE, NEEDLE: "Only here is a zyzzyva."}


@dataclass
class Watched:
    """A page, what it asked the network for, and what it complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, file: Path, fragment: str = "") -> float:
        """Open a file; returns the seconds until its list is shown."""
        began = time.monotonic()
        self.page.goto(f"file://{file}{fragment}")
        self.page.wait_for_selector("#browser[data-ready]")
        return time.monotonic() - began

    def sample(self, key: str) -> None:
        """Wait until this sample is shown."""
        self.page.wait_for_selector(f'.panel[data-sample="{key}"]')

    def tally(self, text: str) -> None:
        from playwright.sync_api import expect

        expect(self.page.locator(".tally")).to_have_text(text)

    def names(self) -> list[str]:
        return self.page.locator(".list [role=row] .name").all_inner_texts()


@pytest.fixture
def watched(chromium: Browser) -> Iterator[Watched]:
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, locale="en-US")
    found = Watched(context.new_page())
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.on("console", lambda message: found.complaints.append(message.text))
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.on("dialog", lambda dialog: found.complaints.append(dialog.message))
    yield found
    addresses = {each.partition("#")[0] for each in found.requests if not each.startswith("data:")}
    context.close()
    assert len(addresses) <= 1 and all(each.startswith("file://") for each in addresses)
    assert found.complaints == []


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_many(tmp_path_factory.mktemp("a") / "run", N, 60, images=40, special=SPECIAL)


@pytest.fixture(scope="module")
def report(first: Path) -> Path:
    return reported(first)


def reported(directory: Path) -> Path:
    run = RunDirectory(directory)
    plan, outcome = read_json(run.plan, Plan), read_json(run.outcome, Outcome)
    verdict = judge(outcome, plan.evaluations, VerdictConfig())
    write_json(run.verdict, verdict)
    write_json(run.environment, ENVIRONMENT)
    write_atomic(run.report_html, render(run, plan, ENVIRONMENT, outcome, verdict))
    return run.report_html


def small(directory: Path, samples: list[SampleRow]) -> Path:
    """The report of a run of few samples."""
    run = RunDirectory(write_run(directory, [row(0), row(1, "B")]))
    write_samples(run.samples, [sample_table(samples)])
    return reported(run.path)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six samples: B is wrong, and a yes is in the answers 2 and 4, both of mini_colour."""
    samples = [row(n, "B" if n % 3 else "A") for n in range(6)]
    for place in (2, 4):
        samples[place] = replace(samples[place], responses=["yes: B"])
    return small(tmp_path_factory.mktemp("six") / "run", samples)


@pytest.fixture(scope="module")
def comparison(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("b")
    second = write_many(folder / "run", N, 60, images=40, changed=0.05)
    compare([str(first), str(second), "--output", str(folder / "page")])
    return folder / "page" / "compare.html"


def test_the_page_opens_quickly_with_few_elements(watched: Watched, report: Path) -> None:
    watched.open(report)
    assert watched.open(report) < 2 * slowness(watched.page)
    watched.tally("20,000 samples")
    assert watched.page.locator("#samples h2").inner_text() == "All 20,000 samples"
    watched.sample("mini_colour/0")
    assert watched.page.locator(".list [role=row]").count() < 100


def slowness(page: Any) -> float:
    """How much slower this machine is just now than the one of the limits: 1 or more."""
    script = """() => {
        const began = performance.now();
        let sum = 0;
        for (let i = 0; i < 3e7; i++) sum = (sum + i * i) % 1000003;
        return performance.now() - began;
    }"""
    return max(1.0, float(page.evaluate(script)) / 250)


def test_filters_sorting_and_their_address(watched: Watched, report: Path) -> None:
    page = watched.page
    watched.open(report)
    page.get_by_role("button", name="wrong").click()
    page.get_by_role("button", name="cut").click()
    page.get_by_label("Subject").select_option("mini_shape")
    told = page.locator(".tally").inner_text()
    assert told.endswith(" of 20,000 samples") and 0 < int(told.split(" ")[0]) < 500
    assert all(name.startswith("mini_shape") for name in watched.names())
    page.get_by_role("columnheader", name="Tokens").get_by_role("button").click()
    tokens = [
        int(text) for text in page.locator(".list [role=row] span:nth-child(5)").all_inner_texts()
    ]
    assert tokens == sorted(tokens)
    page.get_by_role("columnheader", name="Tokens").get_by_role("button").click()
    tokens = [
        int(text) for text in page.locator(".list [role=row] span:nth-child(5)").all_inner_texts()
    ]
    assert tokens == sorted(tokens, reverse=True)
    names, address = watched.names(), page.url
    assert "only=wrong%2Ccut" in address and "task=mini_shape" in address
    page.goto("about:blank")
    watched.requests.clear()
    page.goto(address)
    page.wait_for_selector("#browser[data-ready]")
    watched.tally(told)
    assert watched.names() == names
    assert page.get_by_role("button", name="wrong").get_attribute("aria-pressed") == "true"


def test_the_search_finds_a_word_in_one_of_all_texts(watched: Watched, report: Path) -> None:
    watched.open(report)
    watched.page.keyboard.press("Tab")
    watched.page.get_by_role("searchbox").fill("zyzzyva")
    watched.tally("1 of 20,000 samples")
    watched.sample("mini_shape/8500")
    assert "Only here is a zyzzyva." in watched.page.locator(".panel").inner_text()
    watched.page.get_by_role("searchbox").fill("no such word anywhere")
    watched.tally("0 of 20,000 samples")
    watched.page.get_by_role("searchbox").fill("")
    watched.tally("20,000 samples")


def test_keys_choose_samples(watched: Watched, report: Path) -> None:
    page = watched.page
    watched.open(report)
    page.locator(".list").focus()
    for key, sample in (
        ("j", "mini_shape/0"),
        ("ArrowDown", "mini_colour/1"),
        ("k", "mini_shape/0"),
        ("End", "mini_shape/9999"),
        ("ArrowUp", "mini_colour/9999"),
        ("Home", "mini_colour/0"),
    ):
        page.keyboard.press(key)
        watched.sample(sample)
        row = page.locator(".list [aria-selected=true]")
        assert row.count() == 1
        assert page.locator(".list").get_attribute("aria-activedescendant") == row.get_attribute(
            "id"
        )
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "panel"
    page.keyboard.press("j")
    watched.sample("mini_shape/0")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "list"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    assert page.url.endswith("#sample=mini_shape/0")


def test_a_link_shows_its_sample_as_text(watched: Watched, report: Path) -> None:
    watched.open(report, f"#sample=mini_colour/{WRITTEN // 2}")
    watched.sample(f"mini_colour/{WRITTEN // 2}")
    said = watched.page.locator(".panel pre.answer").inner_text()
    assert said == HOSTILE.replace("\u202e", "⟨U+202E⟩")
    assert watched.page.locator(".panel script, .panel pre img").count() == 0
    assert watched.page.locator(".list [aria-selected=true]").is_visible()


def test_images_come_with_their_sample(watched: Watched, report: Path) -> None:
    watched.open(report)
    watched.sample("mini_colour/0")
    image = watched.page.locator(".panel img")
    watched.page.wait_for_function("document.querySelector('.panel img')?.naturalWidth === 384")
    assert image.get_attribute("alt") == "Image 1 of 1, 384 by 288 pixels"
    assert (
        watched.page.locator("img").count()
        == 1 + watched.page.locator("article:not(.panel) img").count()
    )


def test_nothing_but_the_pages_own_script_runs(watched: Watched, report: Path) -> None:
    watched.open(report)
    ran = watched.page.evaluate(
        """() => {
            const added = document.createElement("script");
            added.textContent = "window.ran = true";
            document.body.append(added);
            return window.ran === true;
        }"""
    )
    assert not ran
    (complaint,) = watched.complaints
    assert "Content Security Policy" in complaint
    watched.complaints.clear()


def test_a_comparison_lists_all_questions(watched: Watched, comparison: Path) -> None:
    page = watched.page
    watched.open(comparison)
    assert watched.open(comparison) < 2 * slowness(page)
    watched.tally("20,000 questions")
    page.get_by_role("button", name="flipped").click()
    page.get_by_role("button", name="worse").click()
    told = page.locator(".tally").inner_text()
    assert 100 < int(told.split(" ")[0]) < 1000
    page.locator(".list").focus()
    page.keyboard.press("Home")
    sides = page.locator(".panel .side")
    assert sides.count() == 2
    assert sides.nth(0).locator("mark").count() and sides.nth(1).locator("mark").count()
    first, second = (sides.nth(n).locator("pre.answer").inner_text() for n in (0, 1))
    assert first != second and first.split()[0] == second.split()[0]
    cause = page.get_by_label("Cause", exact=True)
    cause.select_option("different answer")
    assert "cause=different+answer" in page.url


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (420, "dark")])
def test_the_page_fits_the_window(chromium: Browser, report: Path, width: int, scheme: Any) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"file://{report}")
    page.wait_for_selector("#browser[data-ready]")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_without_scripts_the_page_says_so(chromium: Browser, report: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{report}")
    assert "This list needs JavaScript" in page.locator("#samples").inner_text()
    assert page.locator("article").count() > 0
    context.close()


def test_a_score_that_is_not_finite_has_its_own_texts(watched: Watched, tmp_path: Path) -> None:
    samples = [row(0), row(1, scores={"acc": math.nan}), row(2)]
    watched.open(small(tmp_path / "run", samples))
    watched.sample("mini_colour/0")
    watched.page.locator(".list").focus()
    watched.page.keyboard.press("j")
    watched.sample("mini_shape/0")
    said = watched.page.locator(".panel").inner_text()
    assert "acc not finite" in said and "Question 1?" in said


def test_choices_without_numbers_have_none(watched: Watched, tmp_path: Path) -> None:
    scored = {"choice_logprobs": [-1.0, -3.0], "responses": ["(-1, True)"] * 3}
    watched.open(small(tmp_path / "run", [row(0, **scored, finish_reasons=["length"] * 3)]))
    watched.sample("mini_colour/0")
    names = watched.page.locator(".panel .choices th").all_inner_texts()
    assert names == ["choice unknown"] * 2


def test_a_link_with_a_search_opens_its_sample(watched: Watched, six: Path) -> None:
    watched.open(six, "#sample=mini_colour/2&q=yes")
    watched.tally("2 of 6 samples")
    watched.sample("mini_colour/2")
    chosen = watched.page.locator(".list [aria-selected=true]")
    assert chosen.get_attribute("id") == "row-4"
    assert "Question 4?" in watched.page.locator(".panel").inner_text()
    assert watched.page.get_by_role("button", name="Next sample").is_disabled()
    assert watched.page.get_by_role("button", name="Previous sample").is_enabled()
    assert "sample=mini_colour/2" in watched.page.url


def test_a_link_within_the_page_keeps_the_search(watched: Watched, six: Path) -> None:
    watched.open(six)
    watched.page.get_by_role("searchbox").fill("yes")
    watched.tally("2 of 6 samples")
    watched.page.evaluate(
        """() => new Promise(done => {
            addEventListener("hashchange", () => setTimeout(done, 100));
            location.hash = "#samples";
        })"""
    )
    watched.tally("2 of 6 samples")
    assert watched.page.get_by_role("searchbox").input_value() == "yes"


def test_a_filter_of_a_link_can_be_turned_off(watched: Watched, six: Path) -> None:
    """Even if this page has no such samples, and no button for them otherwise."""
    watched.open(six, "#only=degenerate")
    watched.tally("0 of 6 samples")
    button = watched.page.get_by_role("button", name="degenerate")
    button.click()
    watched.tally("6 samples")
    assert button.count() == 0
    assert watched.page.get_by_role("button", name="wrong").count() == 1


def test_a_link_to_a_sample_that_is_not_listed(watched: Watched, six: Path) -> None:
    """An unknown one is not replaced by another; one that the filters leave out is shown."""
    page = watched.page
    watched.open(six, "#sample=mini_colour/99")
    watched.tally("6 samples; this page has no sample mini_colour/99")
    assert page.locator(".list [aria-selected=true]").count() == 0
    assert page.locator(".panel").inner_text() == ""
    page.locator(".list").focus()
    page.keyboard.press("j")
    watched.sample("mini_colour/0")
    watched.tally("6 samples")
    page.goto("about:blank")
    watched.requests.clear()
    watched.open(six, "#sample=mini_colour/0&only=wrong")
    watched.tally("4 of 6 samples")
    watched.sample("mini_colour/0")
    assert page.locator(".list [aria-selected=true]").count() == 0
    page.locator(".list").focus()
    page.keyboard.press("j")
    watched.sample("mini_shape/0")


def test_keys_go_on_after_a_click_in_the_sample(watched: Watched, six: Path) -> None:
    page = watched.page
    watched.open(six)
    watched.sample("mini_colour/0")
    page.get_by_role("button", name="Next sample").click()
    watched.sample("mini_shape/0")
    page.keyboard.press("j")
    watched.sample("mini_colour/1")
    page.locator(".panel pre.answer").click()
    page.keyboard.press("j")
    watched.sample("mini_shape/1")
    page.keyboard.press("k")
    watched.sample("mini_colour/1")


@pytest.fixture
def served(six: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """runner.view, with a block for each sample."""
    for module in (present, packed):
        monkeypatch.setattr(module, "BLOCK", 1)
    with listen(0) as server:
        server.pages = read_pages(six.parent)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_page_shows_no_texts_of_another_run(
    page: Page, served: Server, six: Path, tmp_path: Path
) -> None:
    """Once its own run is served again, a block that failed is asked for again."""
    page.goto(f"http://127.0.0.1:{served.server_port}/")
    page.wait_for_selector('.panel[data-sample="mini_colour/0"]')
    own = served.pages
    samples = [row(n, prompt=f"Another question {n}?") for n in range(6)]
    served.pages = read_pages(small(tmp_path / "run", samples).parent)
    page.locator(".list").focus()
    page.keyboard.press("j")
    page.wait_for_selector(".panel >> text=Error: the server shows another run by now")
    assert "uestion" not in page.locator(".panel").inner_text()
    served.pages = own
    page.keyboard.press("k")
    page.wait_for_selector('.panel[data-sample="mini_colour/0"]')
    page.keyboard.press("j")
    page.wait_for_selector('.panel[data-sample="mini_shape/0"]')
    assert "Question 1?" in page.locator(".panel").inner_text()
