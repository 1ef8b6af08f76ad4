"""Draws the figures of a sweep: accuracy by axis, heat map of two axes, time and throughput."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from runner.language import ENGLISH, gettext, language, speaking
from runner.present.plots import png, styled, svg
from runner.sweep.accuracy import accuracy
from runner.sweep.heatmap import heat_map
from runner.sweep.summary import MetricId, Sweep
from runner.sweep.throughput import rate, time_and_throughput
from runner.verdict import boundary

# Bytes of a name in a file's name, which has up to three and 255 bytes.
LONGEST_NAME = 70
# Points that a figure's description goes through.
MOST_TOLD = 8


@dataclass(frozen=True)
class Figure:
    """A figure as PNG file and for the page, with its alternative text.

    `note` is the figure's footnote, which the page has below the figure.
    """

    name: str
    content: bytes
    drawn: Markup
    told: str
    note: str


@styled()
def draw(sweep: Sweep) -> list[Figure]:
    """Draw every figure for which the sweep has data."""
    found: list[tuple[str, Callable[[], Any], str]] = []
    for metric in sweep.compared:
        for axis in sweep.axes:
            if sweep.spans(metric, axis):
                name = f"{_file(metric.name)}.by_{_file(axis.short)}"
                told = gettext(
                    "{metric} by {axis}: {values}",
                    metric=metric.name,
                    axis=axis.short,
                    values=_values(sweep, metric),
                )
                found.append((name, partial(accuracy, sweep, metric, axis), told))
        rows, columns = (*sweep.axes, None, None)[:2]
        if rows and columns and sweep.spans(metric, rows) and sweep.spans(metric, columns):
            name = f"{_file(metric.name)}.{_file(rows.short)}_x_{_file(columns.short)}"
            told = gettext(
                "{metric} over {rows} and {columns}: {values}",
                metric=metric.name,
                rows=rows.short,
                columns=columns.short,
                values=_values(sweep, metric),
            )
            found.append((name, partial(heat_map, sweep, metric, rows, columns), told))
    if any(point.outcome is not None for point in sweep.points):
        told = gettext("Time and throughput: {values}", values=_times(sweep))
        found.append(("time_and_throughput", partial(time_and_throughput, sweep), told))
    return [_figure(f"{name}.png", make, told) for name, make, told in found]


def _figure(name: str, make: Callable[[], Any], told: str) -> Figure:
    """Draw a figure; its PNG is in English, because the fonts that it is drawn with are Latin."""
    figure = make()
    if language() == ENGLISH:
        content = png(figure)
    else:
        with speaking(ENGLISH):
            content = png(make())
    note = figure.get_supxlabel()
    figure.supxlabel("")
    return Figure(name, content, svg(figure, told), told, " ".join(note.split()))


def _values(sweep: Sweep, metric: MetricId) -> str:
    values = [
        f"{point.label} {found.value:.3f}"
        for point in sweep.points
        if (found := point.measured(metric)) is not None
    ]
    return gettext("; ").join(filter(None, [_first(values), _tolerated(sweep, metric)]))


def _tolerated(sweep: Sweep, metric: MetricId) -> str:
    """The range that the rule tolerates; empty if it is unknown."""
    ranges = sweep.tolerated(metric)
    if len(ranges) == 1:
        return boundary.said(ranges[0])
    return gettext("the tolerated range differs between points") if ranges else ""


def _times(sweep: Sweep) -> str:
    quantity, unit = rate(sweep)
    measured = [point for point in sweep.points if point.outcome is not None]
    return _first(
        [
            gettext(
                "{point} {seconds:.0f} s evaluation, {rate:.0f} {unit}",
                point=point.label,
                seconds=point.seconds("evaluate_s") or 0,
                rate=point.per_second(quantity) or 0,
                unit=unit,
            )
            for point in measured
        ]
    )


def _first(parts: Sequence[str]) -> str:
    first, more = gettext("; ").join(parts[:MOST_TOLD]), len(parts) - MOST_TOLD
    return gettext("{first}; and {count} more", first=first, count=more) if more > 0 else first


def _file(name: str) -> str:
    """A portable file name; a long one ends in a digest."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("_.")
    if len(plain.encode()) <= LONGEST_NAME:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain.encode()[:LONGEST_NAME].decode(errors='ignore')}-{digest}"
