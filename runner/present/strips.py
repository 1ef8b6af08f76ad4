"""Strips in tables: a value, its interval, its baseline and the tolerated range on a line.

strip.html.j2 draws them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.language import gettext
from runner.present.formats import interval
from runner.verdict import MetricVerdict, boundary

# Colour class by status.
COLOURS = {"PASSED": "good", "FAILED": "bad"}


@dataclass(frozen=True)
class Strip:
    """A value and its interval in per cent of a line; `mark` is the baseline, `band` the tolerated
    range."""

    at: float
    low: float
    high: float
    mark: float | None
    band: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scale:
    """The ends of a line shared by several strips."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Return the position in per cent from the left; NaN is placed at 0."""
        if math.isnan(value):
            return 0.0
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def strip(
        self,
        value: float,
        interval: tuple[float, float] | None,
        mark: float | None,
        band: tuple[float | None, float | None] | None = None,
    ) -> Strip:
        low, high = interval or (value, value)
        held = None if mark is None else self.place(mark)
        start, end = band or (None, None)
        tolerated = (
            0.0 if start is None else self.place(start),
            100.0 if end is None else self.place(end),
        )
        return Strip(
            self.place(value), self.place(low), self.place(high), held, tolerated if band else None
        )


def scale(values: Iterable[float], whole: tuple[float, float] | None = None) -> Scale:
    """Return a scale that covers all values with some margin, clipped to `whole`."""
    known = [value for value in values if math.isfinite(value)] or [0.0]
    room = 0.08 * (max(known) - min(known)) or max(abs(max(known)), 1.0) * 0.05
    low, high = min(known) - room, max(known) + room
    if whole is not None:
        low, high = max(low, whole[0]), min(high, whole[1])
    return Scale(low, high)


def strips(judged: Sequence[MetricVerdict]) -> tuple[Scale | None, list[Strip | None]]:
    """Return strips on a common scale if all values are shares, else on individual scales.

    The scale is None if it is not common; a metric without a value has no strip.
    """
    ends = [_ends(each) for each in judged]
    flat = [end for row in ends for end in row]
    together = bool(flat) and all(0 <= end <= 1 for end in flat)
    common = scale(flat, (0.0, 1.0)) if together else None
    return common, [
        (common or scale(own)).strip(each.value, each.interval, each.baseline, each.tolerated)
        if each.value is not None
        else None
        for each, own in zip(judged, ends, strict=True)
    ]


def told(metric: MetricVerdict) -> str:
    """Return the alternative text of a strip."""
    said = [
        gettext("value {value:.3f}", value=metric.value)
        if metric.value is not None
        else gettext("not measured")
    ]
    if metric.interval is not None:
        said.append(gettext("95 % interval {interval}", interval=interval(metric.interval, 3)))
    if metric.baseline is not None:
        said.append(gettext("baseline {value:.3f}", value=metric.baseline))
    return gettext(", ").join(filter(None, [*said, boundary.said(metric.tolerated)]))


def _ends(metric: MetricVerdict) -> list[float]:
    known = (
        *(metric.interval or ()),
        metric.value,
        metric.baseline,
        *(metric.tolerated or ()),
    )
    return [end for end in known if end is not None and math.isfinite(end)]
