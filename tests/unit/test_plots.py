"""Plots on a page: what they show, in its colours and font, and a stranger's text as text."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from markupsafe import Markup
from PIL import Image

from runner.channel.worker import Progress
from runner.compare.figures import positions_plot
from runner.compare.numerics import Position, Spread
from runner.present.plots import COLOURS, PNG_DPI, SVG, blank, name_columns, png, styled, svg
from runner.report.plots import MOST_BINS, Plot, histogram, pace

HOSTILE = ["</svg><script>alert(1)</script>", "\u202egnp.exe \x00\x1b[2J", "$x$", "模型 🦙"]


def tree(drawn: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)


def texts(drawn: Markup) -> list[str]:
    return [each.text or "" for each in tree(drawn).iter(f"{{{SVG}}}text")]


def titles(drawn: Markup) -> list[str]:
    return [each.text or "" for each in tree(drawn).iter(f"{{{SVG}}}title")]


def points(drawn: Markup, colour: str) -> list[list[tuple[float, float]]]:
    """Corners of each path in the colour."""
    return [
        [(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", each.get("d", ""))]
        for each in tree(drawn).iter(f"{{{SVG}}}path")
        if f"var(--{colour})" in each.get("style", "")
    ]


def lengths(values: Sequence[int]) -> Plot:
    found = histogram("Answer length", values, "tokens")
    assert found is not None
    return found


def progress(done: Sequence[int]) -> list[Progress]:
    return [
        Progress("t", 1, 1, count, 60, time=100.0 + second) for second, count in enumerate(done)
    ]


# A run's page


def test_a_histogram_counts_every_value_once_and_stays_in_its_frame() -> None:
    draw = random.Random(1)
    for _ in range(30):
        values = [draw.randrange(10 ** draw.randrange(1, 6)) for _ in range(draw.randrange(1, 99))]
        found = lengths(values)
        bars = points(found.drawn, "blue")
        assert len(bars) == len(titles(found.drawn)) <= MOST_BINS
        assert sum(int(each.rpartition(": ")[2]) for each in titles(found.drawn)) == len(values)
        _, _, width, height = map(float, tree(found.drawn).attrib["viewBox"].split())
        for x, y in (corner for bar in bars for corner in bar):
            assert 0 <= x <= width and 0 <= y <= height


def test_a_bar_says_which_values_it_counts() -> None:
    assert titles(lengths([2, 2, 4]).drawn) == ["2: 2", "4: 1"]
    assert titles(lengths([*range(100), 7]).drawn)[:2] == ["0–4: 5", "5–9: 6"]


def test_a_bar_of_one_among_thousands_is_visible() -> None:
    low, high = points(lengths([*([1] * 9999), 2]).drawn, "blue")[::-1]
    height_of = [max(y for _, y in bar) - min(y for _, y in bar) for bar in (low, high)]
    assert height_of[0] > 1


def test_a_histogram_says_its_spread() -> None:
    found = lengths([*range(1, 101)])
    assert found.said == "median 50, 95th percentile 95, maximum 100"
    assert f'aria-label="Answer length in tokens: {found.said}"' in found.drawn
    across, up = ["0", "20", "40", "60", "80", "100"], ["0", "1", "2", "3", "4", "5"]
    assert texts(found.drawn) == [*across, "tokens", *up, "samples"]
    assert histogram("Answer length", [], "tokens") is None


def test_a_curve_goes_on_where_another_kind_of_request_begins() -> None:
    events = progress([0, 30, 60, 0, 20, 40])
    found = pace("Answers over time", events)
    assert found is not None
    assert found.said == "100 requests in 5 s (20.0 requests/s), half of them within 2 s"
    (line,) = points(found.drawn, "blue")
    assert line == sorted(line, key=lambda point: (point[0], -point[1]))
    names = texts(found.drawn)
    assert names[names.index("seconds") + 1 :] == ["0", "20", "40", "60", "80", "100", "requests"]
    assert names[: names.index("seconds")] == ["0", "1", "2", "3", "4", "5"]


def test_a_curve_needs_three_points_and_an_answer() -> None:
    assert pace("Answers over time", progress([0, 30])) is None
    assert pace("Answers over time", progress([0, 0, 0])) is None


# A comparison's page


def position(start: int, end: int, *values: float) -> Position:
    median, p99, worst = values
    return Position(start, end, Spread(600, median, p99, worst, 600, 0))


def test_positions_show_median_99th_percentile_and_worst() -> None:
    shown = [
        position(0, 0, 0.0, 0.01, 0.1),
        position(1, 1, 0.001, 0.01, 0.2),
        position(2, 3, 0.001, 0.02, 3000.0),
    ]
    drawn = positions_plot(shown)
    assert drawn is not None
    assert titles(drawn) == [
        "token 0: median 0, 99th percentile 0.01, worst 0.1, 600 compared",
        "token 1: median 0.001, 99th percentile 0.01, worst 0.2, 600 compared",
        "token 2–3: median 0.001, 99th percentile 0.02, worst 3e+03, 600 compared",
    ]
    label = tree(drawn).attrib["aria-label"]
    assert label.startswith("Log-probability differences in nats by token position. token 0: med")
    assert {"0", "1", "2–3", "600", "nats", "0.001", "0.01", "0.1", "10", "100"} == (
        set(texts(drawn)) - {"token position in the answer", "compared tokens"}
    )


def test_without_a_difference_or_a_trend_there_is_no_plot() -> None:
    same = [position(place, place, 0.0, 0.0, 0.0) for place in range(4)]
    assert positions_plot(same) is None
    assert positions_plot([position(place, place, 0.1, 0.2, 0.3) for place in (0, 1)]) is None
    lost = Position(4, 7, Spread(0, float("nan"), float("nan"), float("nan"), 5, 5))
    differing = [position(place, place, 0.1, 0.2, 0.3) for place in range(3)]
    drawn = positions_plot([*differing, lost])
    assert drawn is not None and "4–7" not in drawn


# All pages


@styled()
def simple(names: Sequence[str], width: float = 4.0) -> tuple[bytes, Markup]:
    figure, plot = blank(width, 2.0)
    plot.plot(range(len(names)), range(len(names)), "o-", color=COLOURS["bad"])
    name_columns(plot, names)
    plot.set_title(names[0])
    return png(figure), svg(figure, f"about {names[0]}")


def test_a_plot_has_the_pages_colours_and_font() -> None:
    """No colour of its own, so that dark mode has others; and no background."""
    _, drawn = simple(["a", "b"])
    styles = " ".join(each.get("style", "") for each in tree(drawn).iter())
    assert {"var(--ink)", "var(--soft)", "var(--line)", "var(--bad)"} == set(
        re.findall(r"var\(--\w+\)", styles)
    )
    assert not re.findall(r"#[0-9a-fA-F]{3,6}", styles)
    assert "@font-face" not in drawn and "<style" not in drawn
    assert texts(drawn)[:2] == ["a", "b"]


def test_its_ids_are_its_own() -> None:
    """Markers are drawn by reference; nothing else has an id."""
    ids = [re.findall(r' id="([^"]*)"', simple([name, "b"])[1]) for name in ("one", "other")]
    used = re.findall(r'href="#([^"]*)"', simple(["one", "b"])[1])
    assert set(ids[0]) == set(used) and ids[0]
    assert not set(ids[0]) & set(ids[1])


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_of_strangers_are_text(hostile: str) -> None:
    _, drawn = simple([hostile, "b"])
    assert "<script" not in drawn
    assert not set("\u202e\x00\x1b") & set(drawn)
    assert any("x$" in each for each in texts(drawn)) == ("$" in hostile)
    shown = hostile.replace("\u202e", "⟨U+202E⟩").replace("\x00", "␀").replace("\x1b", "␛")
    assert texts(drawn)[0] == shown
    assert tree(drawn).attrib["aria-label"] == f"about {shown}"


def test_a_wide_plot_scrolls_before_it_cannot_be_read() -> None:
    assert "min-width" not in simple(["a"])[1].partition(">")[0]
    assert 'style="min-width:749pt"' in simple(["a"], 16.0)[1].partition(">")[0]


def test_a_png_is_light_and_has_the_figures_size() -> None:
    import io

    with Image.open(io.BytesIO(simple(["a", "b"])[0])) as picture:
        assert picture.size == (4 * PNG_DPI, 2 * PNG_DPI)
        assert picture.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
