"""Draws a metric over an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.language import gettext
from runner.present.plots import (
    BLUE,
    LETTERS_PER_INCH,
    PALETTE,
    SOFT,
    WASH,
    WIDTH,
    blank,
    name_columns,
)
from runner.sweep.summary import Axis, MetricId, Sweep
from runner.verdict import MetricVerdict, boundary

HEIGHT, WIDEST = 3.9, 16.0
# More lines than this in one picture cannot be told apart: then all are grey and their mean is not.
MOST_SERIES = len(PALETTE)


def accuracy(sweep: Sweep, metric: MetricId, axis: Axis) -> Any:
    """Plot values with 95 % intervals over an axis; the other axes are series."""
    series = _series(sweep, metric, axis)
    many = len(series) > MOST_SERIES
    width = 1.8 + 0.55 * len(axis.values) * min(len(series), 3) ** 0.5
    figure, plot = blank(min(max(WIDTH, width), WIDEST), HEIGHT)
    places: list[tuple[float, MetricVerdict]] = []
    for index, (label, found) in enumerate(series.items()):
        spread = min(0.1, 0.6 / len(series)) if not many else 0.5 / len(series)
        shift = (index - (len(series) - 1) / 2) * spread
        color = SOFT if many else PALETTE[index]
        xs = [axis.values.index(value) + shift for value, _ in found]
        values = [float(metric.value or 0) for _, metric in found]
        places += zip(xs, (metric for _, metric in found), strict=True)
        plot.errorbar(
            xs,
            values,
            yerr=_error_bars([metric for _, metric in found]),
            fmt="o",
            markersize=3 if many or len(xs) > 40 else 5.5,
            color=color,
            alpha=0.5 if many else None,
            elinewidth=0.8 if many else 1.3,
            capsize=0 if many or len(xs) > 40 else 2.5,
            label=_label(sweep, axis, len(series)) if many else label,
        )
        if _numeric(axis) and not many:
            plot.plot(xs, values, color=color, linewidth=1, alpha=0.45)
    if many:
        _means(plot, series, axis)
    _baselines(plot, sweep, metric, axis)
    _tolerated(plot, sweep.tolerated(metric), places, 0.7 if len(series) == 1 else 0.8 * spread)
    name_columns(plot, axis.names)
    plot.set_xlim(-0.6, len(axis.values) - 0.4)
    plot.set_xlabel(axis.short)
    plot.set_ylabel(metric.metric)
    plot.grid(axis="y")
    figure.suptitle(
        gettext("{metric} by {axis}", metric=metric.name, axis=axis.short), x=0.01, ha="left"
    )
    _legend(plot)
    figure.supxlabel(_questions(sweep, metric), x=0.01, ha="left", fontsize=7.5, color=SOFT)
    return figure


def _series(
    sweep: Sweep, metric: MetricId, axis: Axis
) -> dict[str, list[tuple[str, MetricVerdict]]]:
    """Points that agree in all other axes, each with its value of this one."""
    others = [other for other in sweep.axes if other != axis]
    found: dict[str, list[tuple[str, MetricVerdict]]] = {}
    for point in sweep.points:
        value, measured = point.overrides.get(axis.key), point.measured(metric)
        if value is not None and measured is not None:
            label = " ".join(f"{o.short}={o.name(point.overrides.get(o.key))}" for o in others)
            found.setdefault(label, []).append((value, measured))
    for each in found.values():
        each.sort(key=lambda pair: axis.values.index(pair[0]))
    return found


def _error_bars(metrics: Sequence[MetricVerdict]) -> list[list[float]]:
    """Distances to the interval's ends, downwards and upwards; none where there is no interval."""
    found = [
        (metric.value or 0, *(metric.interval or (metric.value or 0, metric.value or 0)))
        for metric in metrics
    ]
    return [
        [max(value - low, 0) for value, low, _ in found],
        [max(high - value, 0) for value, _, high in found],
    ]


def _means(plot: Any, series: dict[str, list[tuple[str, MetricVerdict]]], axis: Axis) -> None:
    by_value: dict[str, list[float]] = {}
    for found in series.values():
        for value, metric in found:
            by_value.setdefault(value, []).append(float(metric.value or 0))
    known = [value for value in axis.values if value in by_value]
    means = [sum(by_value[value]) / len(by_value[value]) for value in known]
    style = "o-" if _numeric(axis) else "o"
    plot.plot(
        [axis.values.index(value) for value in known],
        means,
        style,
        color=BLUE,
        label=gettext("mean"),
        zorder=5,
    )


def _label(sweep: Sweep, axis: Axis, count: int) -> str:
    """Legend label of the grey points."""
    others = [other.short for other in sweep.axes if other != axis]
    if len(others) == 1:
        return gettext("each {axis}", axis=others[0])
    return gettext("{count} settings of {axes}", count=count, axes=gettext(", ").join(others))


def _legend(plot: Any) -> None:
    """Draw a legend above the plot, with each name once; a single series has none."""
    handles, names = plot.get_legend_handles_labels()
    entries = {name: handle for handle, name in zip(handles, names, strict=True) if name}
    if entries:
        letters = max(map(len, entries)) + 6
        columns = int(LETTERS_PER_INCH * plot.figure.get_figwidth() // letters)
        plot.legend(
            list(entries.values()),
            list(entries),
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            borderaxespad=0.2,
            ncols=max(columns, 1),
            fontsize=9,
        )


def _baselines(plot: Any, sweep: Sweep, metric: MetricId, axis: Axis) -> None:
    """One line where all points share a baseline, else one over each value of the axis."""
    by_value: dict[int, set[float]] = {}
    for point in sweep.points:
        found, value = point.measured(metric), point.overrides.get(axis.key)
        if found is not None and found.baseline is not None and value is not None:
            by_value.setdefault(axis.values.index(value), set()).add(found.baseline)
    known = set().union(*by_value.values()) if by_value else set()
    style = {"color": SOFT, "linestyle": "--", "linewidth": 1.2, "zorder": 1}
    if len(known) == 1:
        (baseline,) = known
        plot.axhline(baseline, label=gettext("baseline {value:g}", value=baseline), **style)
    else:
        style["label"] = gettext("baselines")
        for place, values in by_value.items():
            plot.hlines(sorted(values), place - 0.35, place + 0.35, **style)


def _tolerated(
    plot: Any,
    ranges: Sequence[boundary.Range | None],
    places: Sequence[tuple[float, MetricVerdict]],
    width: float,
) -> None:
    """The range that the rule tolerates: across the plot, or behind each point if they differ."""
    ends = [end for each in ranges for end in each or () if end is not None]
    if not ends:
        return
    bottom, top = plot.get_ylim()
    # A wide tolerance must not flatten the points into a line.
    near = [end for end in ends if abs(end - top) < 4 * (top - bottom)]
    bottom, top = min([bottom, *near]), max([top, *near])
    room = 0.05 * (top - bottom)
    bottom, top = bottom - room, top + room
    style = {"color": WASH, "zorder": 0, "label": gettext("tolerated")}

    def within(tolerated: boundary.Range) -> tuple[float, float]:
        low, high = tolerated
        return bottom if low is None else max(low, bottom), top if high is None else min(high, top)

    if len(ranges) == 1 and ranges[0] is not None:
        plot.axhspan(*within(ranges[0]), **style)
    else:
        for place, metric in places:
            if metric.tolerated is not None:
                start, end = within(metric.tolerated)
                plot.bar(place, end - start, width, start, **style)
    plot.set_ylim(bottom, top)


def _numeric(axis: Axis) -> bool:
    """Whether a line between two values of the axis means something."""
    try:
        return bool([float(value) for value in axis.values])
    except ValueError:
        return False


def _questions(sweep: Sweep, metric: MetricId) -> str:
    sizes = sorted({found.n for p in sweep.points if (found := p.measured(metric)) is not None})
    asked = str(sizes[0])
    if len(sizes) > 1:
        asked = gettext("{low} to {high}", low=sizes[0], high=sizes[-1])
        how = gettext("The paired tests compare the questions that both points answered.")
    else:
        how = gettext(
            "All points answer the same questions, so the paired tests detect smaller differences."
        )
    shown = gettext(
        "{questions} questions per point. Bars: 95 % interval of each value.", questions=asked
    )
    return f"{shown}\n{how}"
