"""Draws a heat map of a metric over two axes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from runner.language import gettext
from runner.present.plots import (
    BAD,
    BLUE,
    INK,
    LINE,
    PAPER,
    SOFT,
    WIDTH,
    blank,
    name_columns,
    thin,
)
from runner.sweep.summary import Axis, MetricId, Sweep, SweptPoint
from runner.verdict import boundary

MOST_COLUMNS, MOST_ROWS = 14, 24
# Of each colour; the deepest lets text in the page's ink be read, in light and in dark mode.
SHADES, DEEPEST = 10, 0.5


@dataclass(frozen=True)
class _Cell:
    """Mean value of the points in it and its distance from the reference; None without a value.

    `outside` says that the value of a point in it is not tolerated.
    """

    value: float | None
    difference: float | None
    note: str
    outside: bool


def heat_map(sweep: Sweep, metric: MetricId, rows: Axis, columns: Axis) -> Any:
    """Plot values in a grid, coloured by the difference from the baseline or the first point.

    The colour scale spans at least two standard errors of one value, so that noise stays pale. Its
    dashed lines are the ends of the tolerated range; a cell with a value outside it has a frame.
    """
    from matplotlib.patches import Rectangle

    cells = [
        [_cell(sweep, metric, rows, r, columns, c) for c in columns.values] for r in rows.values
    ]
    differences = [[cell.difference for cell in row] for row in cells]
    told = len(columns.values) <= MOST_COLUMNS and len(rows.values) <= MOST_ROWS
    cell_height = 0.62 if told else 0.3
    figure, plot = blank(
        min(max(WIDTH, 2.6 + 0.95 * len(columns.values)), 16),
        min(max(2.8, 1.6 + cell_height * len(rows.values)), 14),
    )
    ends = _ends(sweep, metric)
    limit = _scale(sweep, metric, differences, ends)
    ends = [end for end in ends if abs(end) <= limit]
    image = plot.pcolormesh(
        [[float("nan") if d is None else d for d in row] for row in differences],
        cmap=_colours(),
        vmin=-limit,
        vmax=limit,
        edgecolors=PAPER,
        linewidth=1.5,
    )
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            if cell.outside:
                corner = (x + 0.04, y + 0.06)
                plot.add_patch(
                    Rectangle(corner, 0.92, 0.88, fill=False, edgecolor=BAD, linewidth=2)
                )
    for y, row in enumerate(cells if told else []):
        for x, cell in enumerate(row):
            value = "" if cell.value is None else f"{cell.value:.3f}"
            lines = [part for part in (value, cell.note) if part]
            for number, line in enumerate(lines):
                middle = y + 0.5 + 0.3 * (number - (len(lines) - 1) / 2)
                plot.text(x + 0.5, middle, line, ha="center", va="center", fontsize=9)
    name_columns(plot, columns.names, 0.5)
    places, shown = thin(rows.names)
    plot.set_yticks([place + 0.5 for place in places], shown)
    plot.set_xlabel(columns.short)
    plot.set_ylabel(rows.short)
    plot.invert_yaxis()
    plot.spines[:].set_visible(False)
    label = (
        gettext("difference from baseline")
        if _has_baseline(sweep, metric)
        else gettext("difference from the first point")
    )
    if ends:
        label += "\n" + gettext("(dashed: limit of the tolerated range)")
    bar = figure.colorbar(image, ax=plot, label=label, format="{x:+.3f}")
    bar.outline.set_visible(False)
    for end in ends:
        bar.ax.axhline(end, color=INK, linestyle=(0, (3, 2)), linewidth=1.5)
    plot.set_title(metric.name)
    notes = []
    if any(cell.outside for row in cells for cell in row):
        notes.append(gettext("Frame: a value outside the tolerated range."))
    if len(sweep.axes) > 2:
        others = gettext(", ").join(
            axis.short for axis in sweep.axes if axis not in (rows, columns)
        )
        notes.append(gettext("Each cell is a mean over {axes}.", axes=others))
    if notes:
        figure.supxlabel(" ".join(notes), x=0.01, ha="left", fontsize=7.5, color=SOFT)
    return figure


def _cell(
    sweep: Sweep, metric: MetricId, rows: Axis, row: str, columns: Axis, column: str
) -> _Cell:
    inside = [
        point
        for point in sweep.points
        if point.overrides.get(rows.key) == row and point.overrides.get(columns.key) == column
    ]
    values = [value for point in inside if (value := _value(point, metric)) is not None]
    differences = [value for point in inside if (value := _gap(sweep, point, metric)) is not None]
    ends = {point.state for point in inside if point.state not in ("PASSED", "UNJUDGED")}
    note = ends.pop().lower() if len(ends) == 1 else gettext("mixed") if ends else ""
    return _Cell(
        statistics.fmean(values) if values else None,
        statistics.fmean(differences) if differences else None,
        note,
        any(boundary.outside(found) for point in inside if (found := point.measured(metric))),
    )


def _value(point: SweptPoint, metric: MetricId) -> float | None:
    found = point.measured(metric)
    return found.value if found is not None else None


def _gap(sweep: Sweep, point: SweptPoint, metric: MetricId) -> float | None:
    found = point.measured(metric)
    if found is None or found.value is None:
        return None
    if found.baseline is not None:
        return found.difference
    first = next((v for p in sweep.points if (v := _value(p, metric)) is not None), found.value)
    return found.value - first


def _has_baseline(sweep: Sweep, metric: MetricId) -> bool:
    known = (point.metrics.get(metric) for point in sweep.points)
    return any(found is not None and found.baseline is not None for found in known)


def _ends(sweep: Sweep, metric: MetricId) -> list[float]:
    """Distances of the tolerated range's ends from the baseline; empty if they differ by point."""
    found = [each for point in sweep.points if (each := point.measured(metric)) is not None]
    ranges = {
        tuple(None if end is None else round(end - (each.baseline or 0.0), 9) for end in held)
        for each in found
        if each.baseline is not None and (held := each.tolerated) is not None
    }
    return [end for end in ranges.pop() if end is not None] if len(ranges) == 1 else []


def _scale(
    sweep: Sweep, metric: MetricId, differences: list[list[float | None]], ends: list[float]
) -> float:
    errors = [
        found.stderr
        for point in sweep.points
        if (found := point.metrics.get(metric)) is not None and found.stderr is not None
    ]
    widest = max((abs(d) for row in differences for d in row if d is not None), default=0.0)
    limit = max(1.2 * widest, 2 * statistics.median(errors) if errors else 0.0, 1e-6)
    # A wide tolerance must not make all cells pale.
    return max([limit, *(1.1 * abs(end) for end in ends if abs(end) < 4 * limit)])


def _colours() -> Any:
    """Red below, blue above: translucent, so that no difference is white in light mode and dark in
    dark mode."""
    from matplotlib.colors import ListedColormap, to_rgba

    depths = [DEEPEST * number / SHADES for number in range(SHADES + 1)]
    below = [to_rgba(BAD, depth) for depth in reversed(depths[1:])]
    return ListedColormap([*below, *(to_rgba(BLUE, depth) for depth in depths)]).with_extremes(
        bad=LINE
    )
