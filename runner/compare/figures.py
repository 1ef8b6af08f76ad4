"""Where the marks of the page's two pictures stand; the template draws them as SVG.

Drawn by hand and not by a plotting library: the page has light and dark colours, and one size for
a telephone and a desk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.compare.numerics import Position
from runner.compare.scores import Scores

# In units of the drawing.
COLUMN, LEFT, TOP, HEIGHT = 54, 52, 14, 210
# Fewer positions than that say nothing about position.
FEWEST = 3
# What rounding leaves of nothing: the axis ends here.
LOWEST_EXPONENT, HIGHEST_EXPONENT = -7, 2


@dataclass(frozen=True)
class Column:
    """One token position: heights of its marks."""

    x: float
    name: str
    n: int
    median: float
    p99: float
    worst: float
    told: str


@dataclass(frozen=True)
class Chart:
    """Log-probability differences by position, on a logarithmic axis."""

    width: float
    height: float
    left: float
    bottom: float
    lines: tuple[tuple[float, str], ...]
    columns: tuple[Column, ...]


def positions_chart(positions: Sequence[Position]) -> Chart | None:
    """None where there are too few positions to compare, or nothing to see."""
    positions = [each for each in positions if each.spread.n]
    worst = max((each.spread.worst for each in positions), default=0.0)
    if len(positions) < FEWEST or worst <= 0:
        return None
    known = [
        value
        for each in positions
        for value in (each.spread.median, each.spread.p99, each.spread.worst)
        if value > 0
    ]
    top = min(math.ceil(math.log10(worst)), HIGHEST_EXPONENT)
    low = max(math.floor(math.log10(min(known))), LOWEST_EXPONENT)
    low = min(low, top - 1)

    def y(value: float) -> float:
        power = math.log10(value) if value > 0 else low
        share = (min(max(power, low), top) - low) / (top - low)
        return round(TOP + HEIGHT * (1 - share), 1)

    step = math.ceil((top - low) / 6)
    return Chart(
        width=LEFT + COLUMN * len(positions) + 8,
        height=TOP + HEIGHT + 44,
        left=LEFT,
        bottom=TOP + HEIGHT,
        lines=tuple((y(10.0**power), _power(power)) for power in range(low, top + 1, step)),
        columns=tuple(
            Column(
                x=LEFT + COLUMN * (place + 0.5),
                name=each.name,
                n=each.spread.n,
                median=y(each.spread.median),
                p99=y(each.spread.p99),
                worst=y(each.spread.worst),
                told=f"token {each.name}: median {each.spread.median:.2g}, 99th percentile "
                f"{each.spread.p99:.2g}, worst {each.spread.worst:.2g}, {each.spread.n} compared",
            )
            for place, each in enumerate(positions)
        ),
    )


@dataclass(frozen=True)
class Bar:
    """A difference with its interval, in per cent of the width of all."""

    zero: float
    low: float
    high: float
    at: float


def bars(rows: Sequence[Scores]) -> list[Bar]:
    """On one scale where all scores are shares, else each on its own."""
    ends = [end for row in rows for end in (*(row.interval or ()), row.difference, 0.0)]
    together = all(row.share for row in rows)
    found = []
    for row in rows:
        own = ends if together else [*(row.interval or ()), row.difference, 0.0]
        low, high = min(own), max(own)
        margin = (high - low) * 0.04 or 1.0
        low, high = low - margin, high + margin

        def place(value: float, low: float = low, high: float = high) -> float:
            return round(100 * (value - low) / (high - low), 2)

        left, right = row.interval or (row.difference, row.difference)
        found.append(Bar(place(0.0), place(left), place(right), place(row.difference)))
    return found


def _power(power: int) -> str:
    return f"{10.0**power:g}" if power >= -3 else f"1e{power}"
