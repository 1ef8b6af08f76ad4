"""Draws a heat map of a metric over two axes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from runner.present.plots import (
    BAD,
    BLUE,
    LINE,
    PAPER,
    SOFT,
    WIDTH,
    blank,
    name_columns,
    thin,
)
from runner.sweep.summary import Axis, MetricId, Sweep, SweptPoint

MOST_COLUMNS, MOST_ROWS = 14, 24
# Of each colour; the deepest lets text in the page's ink be read, in light and in dark mode.
SHADES, DEEPEST = 10, 0.5


@dataclass(frozen=True)
class _Cell:
    """Mean value of the points in it and its distance from the reference; None without a value."""

    value: float | None
    difference: float | None
    note: str


def heat_map(sweep: Sweep, metric: MetricId, rows: Axis, columns: Axis) -> Any:
    """Plot values in a grid, coloured by the difference from the baseline or the first point.

    The colour scale spans at least two standard errors of one value, so that noise stays pale.
    """
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
    limit = _scale(sweep, metric, differences)
    image = plot.pcolormesh(
        [[float("nan") if d is None else d for d in row] for row in differences],
        cmap=_colours(),
        vmin=-limit,
        vmax=limit,
        edgecolors=PAPER,
        linewidth=1.5,
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
    against = "baseline" if _has_baseline(sweep, metric) else "the first point"
    bar = figure.colorbar(image, ax=plot, label=f"difference from {against}", format="{x:+.3f}")
    bar.outline.set_visible(False)
    plot.set_title(metric.name)
    if len(sweep.axes) > 2:
        others = ", ".join(axis.short for axis in sweep.axes if axis not in (rows, columns))
        note = f"Each cell is a mean over {others}."
        figure.supxlabel(note, x=0.01, ha="left", fontsize=7.5, color=SOFT)
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
    note = ends.pop().lower() if len(ends) == 1 else "mixed" if ends else ""
    return _Cell(
        statistics.fmean(values) if values else None,
        statistics.fmean(differences) if differences else None,
        note,
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


def _scale(sweep: Sweep, metric: MetricId, differences: list[list[float | None]]) -> float:
    errors = [
        found.stderr
        for point in sweep.points
        if (found := point.metrics.get(metric)) is not None and found.stderr is not None
    ]
    widest = max((abs(d) for row in differences for d in row if d is not None), default=0.0)
    return max(1.2 * widest, 2 * statistics.median(errors) if errors else 0.0, 1e-6)


def _colours() -> Any:
    """Red below, blue above: translucent, so that no difference is white in light mode and dark in
    dark mode."""
    from matplotlib.colors import ListedColormap, to_rgba

    depths = [DEEPEST * number / SHADES for number in range(SHADES + 1)]
    below = [to_rgba(BAD, depth) for depth in reversed(depths[1:])]
    return ListedColormap([*below, *(to_rgba(BLUE, depth) for depth in depths)]).with_extremes(
        bad=LINE
    )
