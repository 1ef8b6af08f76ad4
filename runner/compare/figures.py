"""The plot and the strips of a comparison's page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from runner.compare.amounts import bounds
from runner.compare.numerics import Position
from runner.compare.scores import Scores
from runner.language import gettext
from runner.present.plots import BAD, BLUE, SOFT, WIDTH, blank, name_columns, styled, svg
from runner.present.strips import Strip, scale
from runner.sweep.axis_findings import amount
from runner.verdict import boundary

HEIGHT = 2.8
# With fewer positions, the plot shows no trend.
FEWEST = 3
# Ends of the axis; smaller values are rounding noise.
LOWEST, HIGHEST = 1e-7, 1e2


def positions_plot(positions: Sequence[Position]) -> Markup | None:
    """Draw log-probability differences by token position on a logarithmic axis.

    None if there are too few positions or no differences.
    """
    positions = [each for each in positions if each.spread.n]
    spreads = [each.spread for each in positions]
    known = [end for each in spreads for end in (each.median, each.p99, each.worst) if end > 0]
    if len(positions) < FEWEST or not known:
        return None
    top = min(10.0 ** math.ceil(math.log10(max(known))), HIGHEST)
    low = min(max(10.0 ** math.floor(math.log10(min(known))), LOWEST), top / 10)
    with styled():
        return _draw(positions, low, top)


def _draw(positions: Sequence[Position], low: float, top: float) -> Markup:
    from matplotlib.ticker import EngFormatter

    spreads = [each.spread for each in positions]
    figure, plot = blank(WIDTH, HEIGHT)
    places = range(len(positions))

    def within(values: Iterable[float]) -> list[float]:
        return [min(max(value, low), top) for value in values]

    median, p99 = within(each.median for each in spreads), within(each.p99 for each in spreads)
    worst = within(each.worst for each in spreads)
    plot.vlines(places, median, p99, color=BLUE, alpha=0.3, linewidth=4)
    plot.plot(places, worst, "_", color=BAD, markersize=13, markeredgewidth=1.5)
    plot.plot(places, p99, "_", color=BLUE, markersize=8, markeredgewidth=1.5)
    plot.plot(places, median, "o", color=BLUE, markersize=5)
    titles = {
        each.name: gettext(
            "token {position}: median {median:.2g}, 99th percentile {p99:.2g}, worst {worst:.2g}, "
            "{count} compared",
            position=each.name,
            median=each.spread.median,
            p99=each.spread.p99,
            worst=each.spread.worst,
            count=each.spread.n,
        )
        for each in positions
    }
    for place, name in enumerate(titles):  # invisible, so that the whole column has the tooltip
        plot.axvspan(place - 0.5, place + 0.5, fill=False, linewidth=0, gid=name)
    plot.set_yscale("log")
    plot.set_ylim(low, top)
    plot.minorticks_off()
    plot.yaxis.set_major_formatter("{x:g}")
    plot.set_ylabel(gettext("nats"))
    plot.set_xlim(-0.6, len(positions) - 0.4)
    name_columns(plot, [each.name for each in positions])
    plot.set_xlabel(gettext("token position in the answer"))
    title = gettext("compared tokens")
    plot.set_title(title, loc="center", fontsize=8, weight="normal", color=SOFT, pad=14)
    short, above = EngFormatter(places=0, sep=""), plot.get_xaxis_transform()
    style = {"ha": "center", "fontsize": 8, "color": SOFT, "in_layout": False}
    for place, each in enumerate(spreads):
        plot.text(place, 1.03, short(each.n), transform=above, **style)
    plot.grid(axis="y")
    plot.spines["left"].set_visible(False)
    told = gettext(
        "Log-probability differences in nats by token position. {positions}.",
        positions=gettext("; ").join(titles.values()),
    )
    return svg(figure, told, titles)


def strips(rows: Sequence[Scores], margin: float) -> list[Strip]:
    """Return differences with intervals, zero and margin: on a common scale if all scores are
    shares, else on individual scales."""
    bands = [boundary.of_margin(0.0, margin, row.higher_is_better) for row in rows]
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


def told(row: Scores, margin: float) -> str:
    """Return the alternative text of a strip."""
    values = {
        "difference": amount(row.difference, row.share),
        "margin": amount(margin, row.share, sign=False),
    }
    if row.interval is None:
        return gettext("difference {difference}, tolerated drop {margin}", **values)
    return gettext(
        "difference {difference}, 95 % {interval}, tolerated drop {margin}",
        **values,
        interval=bounds(row),
    )
