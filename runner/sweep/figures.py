"""Draws the figures of a sweep: accuracy by axis, heat map of two axes, time and throughput.

Does not use pyplot, so there is no display and no global state.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from runner.sweep.canvas import GREY, MUTED, PALE, PALETTE, WASH, blank, name_columns
from runner.sweep.heatmap import heat_map
from runner.sweep.summary import Axis, MetricId, Sweep
from runner.verdict import MetricVerdict

# More lines than this in one picture cannot be told apart: then all are grey and their mean is not.
MOST_SERIES = len(PALETTE)
# Bytes of a name in a file's name, which has up to three and 255 bytes.
LONGEST_NAME = 70
# Points that a figure's description goes through.
MOST_TOLD = 8


@dataclass(frozen=True)
class Figure:
    """A PNG file: name, content and alternative text."""

    name: str
    content: bytes
    told: str


def draw(sweep: Sweep) -> list[Figure]:
    """Draw every figure for which the sweep has data."""
    found: list[tuple[str, Callable[[], Any], str]] = []
    for metric in sweep.compared:
        for axis in sweep.axes:
            if sweep.spans(metric, axis):
                name = f"{_file(metric.name)}.by_{_file(axis.short)}"
                told = f"{metric.name} by {axis.short}: {_values(sweep, metric)}"
                found.append((name, partial(accuracy, sweep, metric, axis), told))
        rows, columns = (*sweep.axes, None, None)[:2]
        if rows and columns and sweep.spans(metric, rows) and sweep.spans(metric, columns):
            name = f"{_file(metric.name)}.{_file(rows.short)}_x_{_file(columns.short)}"
            told = f"{metric.name} over {rows.short} and {columns.short}: {_values(sweep, metric)}"
            found.append((name, partial(heat_map, sweep, metric, rows, columns), told))
    if any(point.outcome is not None for point in sweep.points):
        told = f"Time and throughput: {_times(sweep)}"
        found.append(("time_and_throughput", partial(time_and_throughput, sweep), told))
    return [Figure(f"{name}.png", _png(make), told) for name, make, told in found]


def accuracy(sweep: Sweep, metric: MetricId, axis: Axis) -> Any:
    """Plot values with 95 % intervals over an axis; the other axes are series."""
    series = _series(sweep, metric, axis)
    many = len(series) > MOST_SERIES
    width = min(max(6.4, 1.8 + 0.55 * len(axis.values) * min(len(series), 3) ** 0.5), 16)
    figure, plot = blank(width, 4.2)
    for index, (label, found) in enumerate(series.items()):
        spread = min(0.1, 0.6 / len(series)) if not many else 0.5 / len(series)
        shift = (index - (len(series) - 1) / 2) * spread
        color = MUTED if many else PALETTE[index]
        xs = [axis.values.index(value) + shift for value, _ in found]
        values = [float(metric.value or 0) for _, metric in found]
        plot.errorbar(
            xs,
            values,
            yerr=_error_bars([metric for _, metric in found]),
            fmt="o",
            markersize=3 if many or len(xs) > 40 else 5.5,
            color=color,
            elinewidth=0.8 if many else 1.3,
            capsize=0 if many or len(xs) > 40 else 2.5,
            label=_label(sweep, axis, len(series)) if many else label,
        )
        if _numeric(axis) and not many:
            plot.plot(xs, values, color=color, linewidth=1, alpha=0.45)
    if many:
        _means(plot, series, axis)
    _baselines(plot, sweep, metric, axis)
    _tolerated(plot, sweep, metric)
    name_columns(plot, axis.names)
    plot.set_xlim(-0.6, len(axis.values) - 0.4)
    plot.set_xlabel(axis.short)
    plot.set_ylabel(metric.metric)
    plot.grid(axis="y", color=PALE, linewidth=0.6)
    plot.set_title(f"{metric.name} by {axis.short}", loc="left", fontweight="bold")
    _legend(plot)
    _footnote(figure, _questions(sweep, metric, axis))
    return figure


def time_and_throughput(sweep: Sweep) -> Any:
    """Plot the time and the throughput of each point."""
    count = len(sweep.points)
    rate, unit = _rate(sweep)
    size = 9 if count <= 30 else 7
    figure, (times, rates) = blank(10, max(2.6, 1.5 + (0.3 if count <= 30 else 0.17) * count), 2)
    rows = list(range(count))
    done = [0.0] * count
    laps = (
        ("start_engine_s", "engine start", MUTED),
        ("load_tasks_s", "loading tasks", PALE),
        ("evaluate_s", "evaluation", PALETTE[0]),
    )
    for lap, name, color in laps:
        seconds = [point.seconds(lap) or 0.0 for point in sweep.points]
        times.barh(rows, seconds, left=done, color=color, label=name, height=0.7)
        done = [before + more for before, more in zip(done, seconds, strict=True)]
    rates.barh(
        rows, [point.per_second(rate) or 0 for point in sweep.points], color=PALETTE[2], height=0.7
    )
    for row, point in enumerate(sweep.points):
        if done[row] == 0:
            times.text(0, row, f" {point.state.lower()}", va="center", color=GREY, fontsize=size)
    times.set_yticks(rows, [point.label for point in sweep.points], fontsize=size)
    times.set_ylim(count - 0.4, -0.6)
    times.set_xlabel("seconds")
    rates.set_xlabel(f"{unit} per second")
    rates.sharey(times)
    rates.tick_params(axis="y", labelleft=False)
    for plot in (times, rates):
        plot.grid(axis="x", color=PALE, linewidth=0.6)
        plot.set_axisbelow(True)
    times.set_title("Time", loc="left", fontweight="bold")
    rates.set_title("Throughput", loc="left", fontweight="bold")
    figure.legend(
        *times.get_legend_handles_labels(), loc="outside lower left", ncols=3, frameon=False
    )
    return figure


def _values(sweep: Sweep, metric: MetricId) -> str:
    values = [
        f"{point.label} {found.value:.3f}"
        for point in sweep.points
        if (found := point.measured(metric)) is not None
    ]
    return _first(values)


def _times(sweep: Sweep) -> str:
    rate, unit = _rate(sweep)
    measured = [point for point in sweep.points if point.outcome is not None]
    return _first(
        [
            f"{point.label} {point.seconds('evaluate_s') or 0:.0f} s evaluation, "
            f"{point.per_second(rate) or 0:.0f} {unit} per second"
            for point in measured
        ]
    )


def _first(parts: Sequence[str]) -> str:
    more = f"; and {len(parts) - MOST_TOLD} more" if len(parts) > MOST_TOLD else ""
    return "; ".join(parts[:MOST_TOLD]) + more


def _png(make: Callable[[], Any]) -> bytes:
    from matplotlib import rc_context

    sink = io.BytesIO()
    # A name with dollar signs is no formula, and a glyph that no font here has is no event.
    with rc_context({"text.parse_math": False, "font.size": 10}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        make().savefig(sink, format="png", dpi=150)
    return sink.getvalue()


def _file(name: str) -> str:
    """A portable file name; a long one ends in a digest."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("_.")
    if len(plain.encode()) <= LONGEST_NAME:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain.encode()[:LONGEST_NAME].decode(errors='ignore')}-{digest}"


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
        color=PALETTE[0],
        label="mean",
        zorder=5,
    )


def _label(sweep: Sweep, axis: Axis, count: int) -> str:
    """Legend label of the grey points."""
    others = [other.short for other in sweep.axes if other != axis]
    return f"each {others[0]}" if len(others) == 1 else f"{count} settings of {', '.join(others)}"


def _legend(plot: Any) -> None:
    """Draw a legend beside the plot, with each name once; a single series has none."""
    handles, names = plot.get_legend_handles_labels()
    entries = {name: handle for handle, name in zip(handles, names, strict=True) if name}
    if entries:
        plot.legend(
            list(entries.values()),
            list(entries),
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            frameon=False,
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
    style = {"color": MUTED, "linestyle": "--", "linewidth": 1.2, "zorder": 1}
    if len(known) == 1:
        (baseline,) = known
        plot.axhline(baseline, label=f"baseline {baseline:g}", **style)
    else:
        for place, values in by_value.items():
            plot.hlines(sorted(values), place - 0.35, place + 0.35, label="baselines", **style)


def _tolerated(plot: Any, sweep: Sweep, metric: MetricId) -> None:
    """The range that the rule tolerates, where all points have the same."""
    ranges = {found.tolerated for p in sweep.points if (found := p.measured(metric)) is not None}
    shared = ranges.pop() if len(ranges) == 1 else None
    if shared is None:
        return
    low, high = shared
    bottom, top = plot.get_ylim()
    # A wide tolerance must not flatten the points into a line.
    near = [end for end in (low, high) if end is not None and abs(end - top) < 4 * (top - bottom)]
    bottom, top = min([bottom, *near]), max([top, *near])
    room = 0.05 * (top - bottom)
    bottom, top = bottom - room, top + room
    plot.axhspan(
        bottom if low is None else max(low, bottom),
        top if high is None else min(high, top),
        color=WASH,
        zorder=0,
        label="tolerated",
    )
    plot.set_ylim(bottom, top)


def _numeric(axis: Axis) -> bool:
    """Whether a line between two values of the axis means something."""
    try:
        return bool([float(value) for value in axis.values])
    except ValueError:
        return False


def _questions(sweep: Sweep, metric: MetricId, axis: Axis) -> str:
    sizes = sorted({found.n for p in sweep.points if (found := p.measured(metric)) is not None})
    asked = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return (
        f"{asked} questions per point. Bars: 95 % interval of each value.\n"
        "All points answer the same questions, so the paired tests in sweep.md detect smaller "
        "differences."
    )


def _footnote(figure: Any, text: str) -> None:
    figure.supxlabel(text, x=0.01, ha="left", fontsize=7.5, color=GREY)


def _rate(sweep: Sweep) -> tuple[str, str]:
    """Tokens where answers were generated, else samples."""
    generated = any(point.per_second("output_tokens") for point in sweep.points)
    return ("output_tokens", "output tokens") if generated else ("evaluated", "samples")
