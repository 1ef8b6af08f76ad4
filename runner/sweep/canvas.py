"""Shared style of all figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Okabe & Ito's colours, which stay apart for every kind of colour vision; the yellow is too pale.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, GREY, MUTED, PALE = "#333333", "#777777", "#a6a6a6", "#d4d4d4"
WASH = "#e4f4ed"
MOST_TICKS = 24
# A legend or a colour bar takes its part of the width.
LETTERS_PER_INCH = 7


def blank(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    """Return a figure and its axes (one or a row), without frames."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    plots = figure.subplots(1, panels, squeeze=False)[0]
    for plot in plots:
        plot.spines[["top", "right"]].set_visible(False)
        plot.tick_params(length=3, color=GREY, labelcolor=INK)
    return figure, plots if panels > 1 else plots[0]


def name_columns(plot: Any, names: Sequence[str]) -> None:
    """Set tick labels, slanted if they would overlap."""
    places, shown = thin(names)
    if sum(len(name) + 2 for name in shown) > LETTERS_PER_INCH * plot.figure.get_figwidth():
        slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
        plot.set_xticks(places, shown, **slanted)
    else:
        plot.set_xticks(places, shown)


def thin(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return positions and labels of ticks, thinned out if there are too many."""
    step = -(-len(names) // MOST_TICKS)
    places = list(range(0, len(names), step or 1))
    return places, [names[place] for place in places]
