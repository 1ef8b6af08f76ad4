"""Plots of report.html: how long prompts and answers were, and how fast they came."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from runner.channel.worker import Progress
from runner.language import gettext
from runner.present.plots import BLUE, WIDTH, blank, styled, svg

HEIGHT = 2.0
MOST_BINS = 24
# So that a bar of one sample among thousands is visible.
LOWEST = 0.016


@dataclass(frozen=True)
class Plot:
    """A plot, its title, and its numbers in words."""

    title: str
    drawn: Markup
    said: str


@styled()
def histogram(title: str, values: Sequence[int], unit: str) -> Plot | None:
    """Draw bars of equal, round width; None without values."""
    if not values:
        return None
    from matplotlib.ticker import MaxNLocator

    ordered = sorted(values)
    rounded = MaxNLocator(MOST_BINS, integer=True, steps=[1, 2, 5, 10])
    edges = rounded.tick_values(ordered[0], ordered[-1] + 1)
    size = round(edges[1] - edges[0])
    figure, plot = _axes(unit, gettext("samples"))
    # A bar of one value is centred on it, a wider one starts at its first.
    if size == 1:
        edges = edges - 0.5
    counts, _, bars = plot.hist(ordered, edges, rwidth=0.9, color=BLUE)
    plot.set_xlim(edges[0], edges[-1])
    titles = {}
    for count, start, bar in zip(counts, edges[:-1], bars, strict=True):
        values_of = _span(math.ceil(start), size)
        bar.set_visible(count > 0)
        bar.set_height(max(count, LOWEST * max(counts)))
        bar.set_gid(values_of)
        titles[values_of] = f"{values_of}: {count:.0f}"
    plot.yaxis.get_major_locator().set_params(integer=True)
    said = _spread(ordered)
    told = gettext("{title} in {unit}: {said}", title=title, unit=unit, said=said)
    return Plot(title, svg(figure, told, titles), said)


@styled()
def pace(title: str, events: Iterable[Progress]) -> Plot | None:
    """Draw requests answered over time; None if there are fewer than three progress events."""
    times, answered = _progress(events)
    if len(times) < 3 or times[-1] <= 0 or answered[-1] == 0:
        return None
    seconds, total = times[-1], answered[-1]
    figure, plot = _axes(gettext("seconds"), gettext("requests"))
    plot.plot(times, answered, color=BLUE)
    plot.set_xlim(0, seconds)
    plot.set_ylim(0, total)
    half = next(time for time, done in zip(times, answered, strict=True) if done >= total / 2)
    said = gettext(
        "{total} requests in {seconds:.3g} s ({rate:.1f} requests/s), half of them within "
        "{half:.3g} s",
        total=total,
        seconds=seconds,
        rate=total / seconds,
        half=half,
    )
    return Plot(title, svg(figure, gettext("{title}: {said}", title=title, said=said)), said)


def _axes(across: str, up: str) -> tuple[Any, Any]:
    figure, plot = blank(WIDTH, HEIGHT)
    plot.set_xlabel(across)
    plot.set_ylabel(up)
    plot.margins(0)
    plot.grid(axis="y")
    plot.spines["left"].set_visible(False)
    plot.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10])
    plot.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])
    plot.ticklabel_format(style="plain", useOffset=False)
    return figure, plot


def _progress(events: Iterable[Progress]) -> tuple[list[float], list[int]]:
    """Seconds since the first event, and how many requests were answered by then."""
    times: list[float] = []
    answered: list[int] = []
    before = last = 0
    for event in events:
        if event.done < last:  # another kind of request begins
            before += last
        last = event.done
        times.append(event.time)
        answered.append(before + last)
    return [time - times[0] for time in times], answered


def _span(start: int, size: int) -> str:
    return str(start) if size == 1 else f"{start}–{start + size - 1}"


def _spread(ordered: Sequence[int]) -> str:
    """Median, 95th percentile and maximum of sorted values."""
    count = len(ordered)
    high = ordered[min(math.ceil(0.95 * count) - 1, count - 1)]
    half = ordered[(count - 1) // 2]
    return gettext(
        "median {median}, 95th percentile {high}, maximum {most}",
        median=half,
        high=high,
        most=ordered[-1],
    )
