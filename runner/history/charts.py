"""Draws a series of nights, and its sparkline in the table of all series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from runner.history import findings
from runner.history.result import Kind, Night, Series, State
from runner.history.versions import Version
from runner.language import N_, gettext
from runner.present.plots import BAD, BLUE, INK, SOFT, WASH, blank, styled, svg
from runner.present.strips import scale

WIDTH, HEIGHT = 8.4, 2.7
# Versions whose change is marked in the chart, by the beginning of their name; the page lists all.
MARKED = (
    *("vllm", "torch", "transformers", "lm-eval", "cann", "driver", "firmware", "weights"),
    *("prompts", "reference run", "python"),
)
# With more nights, tooltips and error bars would make the page large.
MOST_DETAILED = 150
MOST_TICKS = 12
UNITS = {
    Kind.THROUGHPUT: N_("per second"),
    Kind.START: N_("seconds"),
    Kind.DEGENERATE: "%",
    Kind.SHIFT: N_("nats"),
}
# A sparkline's size, and how many values it has at most.
SPARK_WIDTH, SPARK_HEIGHT, SPARK_VALUES = 120, 26, 90


@dataclass(frozen=True)
class Mark:
    """A numbered vertical line: the versions that changed on a night."""

    number: int
    night: Night
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Spark:
    """A sparkline: points of a polyline, the last value, and the first bad night's."""

    points: str
    last: tuple[float, float]
    bad: tuple[float, float] | None


def marks(series: Series) -> list[Mark]:
    """Return the nights on which a version changed that can explain a change of values."""
    nights = [each for each in series.nights if _marked(each.changed)]
    return [Mark(n, each, _marked(each.changed)) for n, each in enumerate(nights, start=1)]


def _marked(versions: Sequence[Version]) -> tuple[Version, ...]:
    return tuple(each for each in versions if each.name.lower().startswith(MARKED))


def spark(series: Series) -> Spark | None:
    """Return the sparkline of the latest values; None without values."""
    nights = [each for each in series.nights if each.counted][-SPARK_VALUES:]
    values = [each.value for each in nights if each.value is not None]
    if not values:
        return None
    line = scale(values)

    def at(place: int) -> tuple[float, float]:
        across = SPARK_WIDTH * (place + 0.5) / len(values)
        return round(across, 1), round(SPARK_HEIGHT * (1 - line.place(values[place]) / 100), 1)

    bad = next((n for n, each in enumerate(nights) if each.number == series.bad), None)
    return Spark(
        " ".join(f"{x},{y}" for x, y in map(at, range(len(values)))),
        at(len(values) - 1),
        None if bad is None else at(bad),
    )


@styled()
def chart(series: Series) -> Markup:
    """Draw the nights with intervals, tolerated range, control limits and version changes."""
    figure, plot = blank(WIDTH, HEIGHT)
    detailed = len(series.nights) <= MOST_DETAILED
    counted = [each for each in series.nights if each.counted and each.value is not None]
    factor = 100 if series.kind is Kind.DEGENERATE else 1
    _band(plot, counted, factor)
    if series.limits is not None:
        lowest = 0 if min(series.values) >= 0 else -math.inf
        for limit in {each for each in series.limits if each >= lowest}:
            plot.axhline(limit * factor, color=SOFT, linestyle=(0, (5, 3)), linewidth=1)
    for bad in (False, True):
        own = [each for each in counted if _bad(series, each) is bad]
        _points(plot, own, BAD if bad else BLUE, factor, detailed)
    for each in series.nights:
        if not each.counted:
            above = plot.get_xaxis_transform()
            plot.plot([each.number], [0.03], "x", color=SOFT, markersize=5, transform=above)
    for mark in marks(series):
        plot.axvline(mark.night.number - 0.5, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
        plot.text(
            mark.night.number - 0.5,
            1.03,
            str(mark.number),
            transform=plot.get_xaxis_transform(),
            ha="center",
            fontsize=8,
            color=SOFT,
        )
    _axes(plot, series)
    titles = _titles(plot, series) if detailed else {}
    return svg(figure, _told(series), titles)


def _bad(series: Series, night: Night) -> bool:
    """Whether a night is on the worse level."""
    if series.bad is None or night.number < series.bad:
        return False
    if series.state is not State.RECOVERED:
        return True
    counted = [each.number for each in series.nights if each.counted]
    later = [
        counted[each.first]
        for each in series.changes
        if not each.worse and counted[each.first] > series.bad
    ]
    return not later or night.number < later[0]


def _band(plot: Any, counted: Sequence[Night], factor: float) -> None:
    """The tolerated range of each night, which ends with the axis where it is open."""
    known = [each for each in counted if each.tolerated is not None]
    if not known:
        return
    ends = [end for each in known for end in each.tolerated or () if end is not None]
    values = [each.value for each in counted if each.value is not None]
    line = scale([factor * each for each in (*ends, *values)])
    low = [
        factor * t[0] if (t := each.tolerated) and t[0] is not None else line.low for each in known
    ]
    high = [
        factor * t[1] if (t := each.tolerated) and t[1] is not None else line.high for each in known
    ]
    plot.fill_between(
        [each.number for each in known], low, high, color=WASH, linewidth=0, step="mid", zorder=0.5
    )


def _points(plot: Any, nights: Sequence[Night], colour: str, factor: float, detailed: bool) -> None:
    places = [each.number for each in nights]
    values = [factor * each.value for each in nights if each.value is not None]
    if detailed:
        bars = [each for each in nights if each.interval is not None]
        low = [factor * each.interval[0] for each in bars if each.interval]
        high = [factor * each.interval[1] for each in bars if each.interval]
        plot.vlines([each.number for each in bars], low, high, color=colour, alpha=0.3, linewidth=3)
    plot.plot(places, values, "o", color=colour, markersize=5 if detailed else 2.5)


def _axes(plot: Any, series: Series) -> None:
    nights = series.nights
    plot.set_xlim(0.4, len(nights) + 0.6)
    step = -(-len(nights) // MOST_TICKS)
    ticks = nights[::step]
    # The time of the day is in the tooltip.
    names = [each.when.partition(" ")[0][5:] for each in ticks]
    plot.set_xticks([each.number for each in ticks], names)
    plot.grid(axis="y")
    plot.spines["left"].set_visible(False)
    plot.locator_params(axis="y", nbins=5)
    if series.kind is Kind.DEGENERATE:  # not a scale of rounding errors
        plot.set_ylim(0, max(plot.get_ylim()[1], 1.0))
    plot.ticklabel_format(axis="y", style="plain", useOffset=False)
    if series.kind in UNITS:
        plot.set_ylabel(gettext(UNITS[series.kind]))


def _titles(plot: Any, series: Series) -> dict[str, str]:
    """Invisible columns with a tooltip for each night."""
    from matplotlib.patches import Rectangle

    titles = {}
    for each in series.nights:
        name = f"night-{each.number}"
        column = Rectangle((each.number - 0.5, 0), 1, 1, fill=False, linewidth=0, gid=name)
        column.set_transform(plot.get_xaxis_transform())
        plot.add_artist(column)
        told = {"date": each.when, "night": each.number, "verdict": each.verdict}
        parts = [gettext("{date}, night {night}: {verdict}", **told)]
        if each.value is not None:
            parts.append(findings.value(series, each.value))
        if each.interval is not None:
            low, high = (findings.value(series, end) for end in each.interval)
            parts.append(gettext("95 % {low} to {high}", low=low, high=high))
        parts += [version.said for version in each.changed]
        titles[name] = "\n".join(parts)
    return titles


def _told(series: Series) -> str:
    name = f"{series.model} {series.task} {series.metric} {series.label}".strip()
    return gettext(
        "{series}: {count} nights. {headline}",
        series=name,
        count=len(series.nights),
        headline=series.headline,
    )
