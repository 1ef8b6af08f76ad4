"""Geometry of the two charts on the page; the template draws them.

No plotting library: the charts follow the page's light or dark colours and its width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.compare.numerics import Position
from runner.compare.scores import Scores
from runner.present.drawing import Strip, scale

# With fewer positions, the chart shows no trend.
FEWEST = 3
# Ends of the axis; smaller values are rounding noise.
LOWEST_EXPONENT, HIGHEST_EXPONENT = -7, 2


@dataclass(frozen=True)
class Column:
    """One token position: heights of its marks in per cent of the chart."""

    name: str
    n: int
    median: float
    p99: float
    worst: float
    told: str


@dataclass(frozen=True)
class Chart:
    """Log-probability differences by position on a logarithmic axis.

    `lines` are heights in per cent and labels of grid lines, `told` is the alternative text.
    """

    lines: tuple[tuple[float, str], ...]
    columns: tuple[Column, ...]
    told: str


def positions_chart(positions: Sequence[Position]) -> Chart | None:
    """Return the chart; None if there are too few positions or no differences."""
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

    def height(value: float) -> float:
        power = math.log10(value) if value > 0 else low
        return round(100 * (min(max(power, low), top) - low) / (top - low), 1)

    step = math.ceil((top - low) / 6)
    columns = tuple(
        Column(
            name=each.name,
            n=each.spread.n,
            median=height(each.spread.median),
            p99=height(each.spread.p99),
            worst=height(each.spread.worst),
            told=f"token {each.name}: median {each.spread.median:.2g}, 99th percentile "
            f"{each.spread.p99:.2g}, worst {each.spread.worst:.2g}, {each.spread.n} compared",
        )
        for each in positions
    )
    return Chart(
        lines=tuple((height(10.0**power), _power(power)) for power in range(low, top + 1, step)),
        columns=columns,
        told="Log-probability differences in nats by token position. "
        + "; ".join(column.told for column in columns),
    )


def strips(rows: Sequence[Scores], margin: float) -> list[Strip]:
    """Return differences with intervals, zero and margin: on a common scale if all scores are
    shares, else on individual scales."""
    bands = [(-margin, None) if row.higher_is_better else (None, margin) for row in rows]
    ends = [
        [0.0, row.difference, *(row.interval or ()), *(end for end in band if end is not None)]
        for row, band in zip(rows, bands, strict=True)
    ]
    together = all(row.share for row in rows)
    common = scale([end for own in ends for end in own]) if together else None
    return [
        (common or scale(own)).strip(row.difference, row.interval, 0.0, band)
        for row, own, band in zip(rows, ends, bands, strict=True)
    ]


def _power(power: int) -> str:
    return f"{10.0**power:g}" if power >= -3 else f"1e{power}"
