"""Geometry of the charts on a page; the templates draw them.

No plotting library: the charts follow the page's light or dark colours and its width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.channel.worker import Progress

# In units of the drawing.
WIDTH, HEIGHT = 320.0, 96.0
MOST_BINS, MOST_POINTS, MOST_TICKS = 24, 160, 6


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


@dataclass(frozen=True)
class Bin:
    """One bar of a histogram: position, size and label."""

    x: float
    width: float
    height: float
    told: str


@dataclass(frozen=True)
class Histogram:
    """A histogram.

    `ticks` are positions and labels on the horizontal axis, `levels` those on the vertical axis.
    """

    bins: tuple[Bin, ...]
    ticks: tuple[tuple[float, str], ...]
    levels: tuple[tuple[float, str], ...]
    said: str


@dataclass(frozen=True)
class Curve:
    """Requests answered over time as points of an SVG line, with both axes."""

    points: str
    ticks: tuple[tuple[float, str], ...]
    levels: tuple[tuple[float, str], ...]
    said: str


def scale(values: Iterable[float], whole: tuple[float, float] | None = None) -> Scale:
    """Return a scale that covers all values with some margin, clipped to `whole`."""
    known = [value for value in values if math.isfinite(value)] or [0.0]
    room = 0.08 * (max(known) - min(known)) or max(abs(max(known)), 1.0) * 0.05
    low, high = min(known) - room, max(known) + room
    if whole is not None:
        low, high = max(low, whole[0]), min(high, whole[1])
    return Scale(low, high)


def histogram(values: Sequence[int]) -> Histogram | None:
    """Return bars of equal, round width; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    size = _round_step(ordered[0], ordered[-1])
    start = ordered[0] // size
    counts = [0] * (ordered[-1] // size - start + 1)
    for value in ordered:
        counts[value // size - start] += 1
    width, most = WIDTH / len(counts), max(counts)
    bins = tuple(
        Bin(
            x=round(place * width, 2),
            width=round(max(width - 1, width * 0.6), 2),
            # Keeps non-empty bars visible.
            height=round(max(HEIGHT * count / most, 1.5), 2) if count else 0.0,
            told=f"{_span((start + place) * size, size)}: {count}",
        )
        for place, count in enumerate(counts)
    )
    every = math.ceil(len(counts) / MOST_TICKS)
    # A bar of one value is labelled at its centre, a wider one at its start.
    middle = 0.5 if size == 1 else 0.0
    ticks = tuple(
        (round((place + middle) * width, 1), str((start + place) * size))
        for place in range(0, len(counts) + (size > 1), every)
    )
    return Histogram(bins, ticks, _levels(most), _spread(ordered))


def curve(progress: Iterable[Progress]) -> Curve | None:
    """Return the curve of a task's progress events; None if there are fewer than three."""
    times: list[float] = []
    answered: list[int] = []
    before = last = 0
    for event in progress:
        if event.done < last:  # another kind of request begins
            before += last
        last = event.done
        times.append(event.time)
        answered.append(before + last)
    if len(times) < 3 or times[-1] <= times[0] or answered[-1] == 0:
        return None
    seconds, total = times[-1] - times[0], answered[-1]
    every = math.ceil(len(times) / MOST_POINTS)
    kept = [*range(0, len(times) - 1, every), len(times) - 1]
    points = " ".join(
        f"{WIDTH * (times[at] - times[0]) / seconds:.1f},{HEIGHT * (1 - answered[at] / total):.1f}"
        for at in kept
    )
    step = _round_part(seconds)
    passed = [number * step for number in range(int(seconds / step) + 1)]
    ticks = tuple((round(WIDTH * each / seconds, 1), f"{each:g}") for each in passed)
    half = next(times[at] - times[0] for at in range(len(times)) if answered[at] >= total / 2)
    pace = f"{total} requests in {seconds:.3g} s ({total / seconds:.1f} requests/s)"
    return Curve(points, ticks, _levels(total), f"{pace}, half of them within {half:.3g} s")


def _levels(most: int) -> tuple[tuple[float, str], ...]:
    """Round numbers up to `most` and their heights."""
    step = max(round(_round_part(most)), 1)
    return tuple(
        (round(HEIGHT * (1 - each / most), 1), str(each)) for each in range(0, most + 1, step)
    )


def _round_part(whole: float) -> float:
    """1, 2 or 5 times a power of ten: a quarter of the whole, or the next that is greater."""
    power = 10.0 ** math.floor(math.log10(whole / 4))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= whole / 4 * 0.999)


def _round_step(low: int, high: int) -> int:
    """1, 2, 5, 10, … : the smallest that needs no more bars than there may be."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if high // (factor * power) - low // (factor * power) < MOST_BINS:
                return factor * power
        power *= 10


def _span(start: int, size: int) -> str:
    return str(start) if size == 1 else f"{start}–{start + size - 1}"


def _spread(ordered: Sequence[int]) -> str:
    """Median, 95th percentile and maximum of sorted values."""
    count = len(ordered)
    high = ordered[min(math.ceil(0.95 * count) - 1, count - 1)]
    half = ordered[(count - 1) // 2]
    return f"median {half}, 95th percentile {high}, maximum {ordered[-1]}"
