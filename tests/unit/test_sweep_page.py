"""sweep.html: the answer first, every point with its report, and a stranger's text as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from markupsafe import Markup

from runner.sweep.answers import read_answers
from runner.sweep.comparison import compare
from runner.sweep.figures import Figure
from runner.sweep.summary import read_sweep
from runner.sweep.sweep_page import render
from runner.tracking.links import Links
from runner.tracking.tracked import TrackedRun
from tests.html import Page
from tests.sweeps import Asked, Found, build, grid

TP = "parallelism.tp"
HOSTILE = ["</td><script>alert(1)</script>", "\u202egnp.exe", "{{ 7 * 7 }}"]
TOLD = "mini acc by tp: tp=1 0.800; tp=2 0.550"
DRAWN = Markup(f'<svg role="img" aria-label="{TOLD}"></svg>')
PLOT = Figure("mini_acc.by_tp.png", b"\x89PNG", DRAWN, TOLD, "100 questions per point.")
LINKS = Links("http://there/table", "http://there/chart", "http://there/compare")


def right(count: int) -> list[float]:
    return [1.0] * count + [0.0] * (100 - count)


def page(directory: Path, points: list[Asked]) -> str:
    sweep = read_sweep(build(directory, points))
    asked = {
        metric: {p.number: a for p in sweep.points if (a := read_answers(p, (metric,)).get(metric))}
        for metric in sweep.compared
    }
    return render(sweep, compare(sweep, asked), [LINKS], [PLOT])


def by_tp(found: Callable[[str], Found | None]) -> list[Asked]:
    return grid({TP: ["1", "2", "4"]}, lambda chosen: found(chosen[TP]))


def test_the_answer_comes_first_then_the_points(tmp_path: Path) -> None:
    points = by_tp(lambda tp: None if tp == "4" else Found(right(80 if tp == "1" else 55)))
    text = page(tmp_path, points)
    found = Page(text)
    assert found.open == []
    order = [
        ">1 PASSED<",
        ">1 FAILED<",
        ">1 NOT RUN<",
        "<h1>tp changes mini acc: −25.0 points (2 vs 1)</h1>",
        "tp: 2 vs 1: −25.0 points (95 %",
        'href="0/report.md"',
        'id="tests"',
        "<svg",
        "<figcaption>100 questions per point.</figcaption>",
        'id="reproduce"',
    ]
    places = [text.index(each) for each in order]
    assert places == sorted(places)
    assert DRAWN in text
    assert (
        "value 0.550, 95 % interval" in text and "baseline 0.800, tolerated 0.762 to 0.842" in text
    )
    assert "NOT RUN 2 (tp=4): not started" in text
    assert not [each for each in found.loads if each.startswith("file:")]


def test_the_contents_lead_somewhere(tmp_path: Path) -> None:
    found = Page(page(tmp_path, by_tp(lambda tp: Found(right(80)))))
    targets = {each[1:] for each in found.loads if each.startswith("#")}
    assert {"points", "tests", "figures", "reproduce", "reading"} == targets <= set(found.ids)


def test_a_point_leads_to_its_run(tmp_path: Path) -> None:
    tracked = TrackedRun("http://there", "mini", "1", "a" * 32)
    points = [
        Asked((f"{TP}={tp}",), Found(right(80)), 0, tracked=tracked if tp == "1" else None)
        for tp in ("1", "2")
    ]
    loads = Page(page(tmp_path, points)).loads
    assert sum("a" * 32 in each for each in loads) == 1
    assert {"0/report.md", "1/report.md", LINKS.table, LINKS.chart, LINKS.compare} <= set(loads)


def test_a_strangers_text_stays_text(tmp_path: Path) -> None:
    points = grid({"model.name": HOSTILE}, lambda chosen: Found(right(80), model="<b>"))
    text = page(tmp_path, points)
    found = Page(text)
    assert found.open == [] and "script" not in found.tags
    assert "\u202e" not in text and "⟨U+202E⟩gnp.exe" in text
    assert "{{ 7 * 7 }}" in "".join(found.text)
