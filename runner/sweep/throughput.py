"""Draws the time and the throughput of each point."""

from __future__ import annotations

from typing import Any

from runner.language import gettext
from runner.present.plots import BLUE, LETTERS_PER_INCH, PALETTE, SOFT, WIDTH, blank
from runner.sweep.summary import Sweep


def time_and_throughput(sweep: Sweep) -> Any:
    """Plot the time and the throughput of each point."""
    count = len(sweep.points)
    few = count <= 30
    size = 9 if few else 7
    labels = [point.label for point in sweep.points]
    width = min(3.6 + max(map(len, labels)) / LETTERS_PER_INCH, 12)
    height = max(2.6, 1.5 + (0.3 if few else 0.17) * count)
    figure, (times, rates) = blank(max(WIDTH, width), height, 2)
    rows = list(range(count))
    done = [0.0] * count
    laps = (
        ("start_engine_s", gettext("engine start"), 0.6),
        ("load_tasks_s", gettext("loading tasks"), 0.3),
        ("evaluate_s", gettext("evaluation"), 1.0),
    )
    for lap, name, alpha in laps:
        seconds = [point.seconds(lap) or 0.0 for point in sweep.points]
        times.barh(rows, seconds, left=done, color=BLUE, alpha=alpha, label=name, height=0.7)
        done = [before + more for before, more in zip(done, seconds, strict=True)]
    quantity, unit = rate(sweep)
    speeds = [point.per_second(quantity) or 0 for point in sweep.points]
    rates.barh(rows, speeds, color=PALETTE[2], height=0.7)
    for row, point in enumerate(sweep.points):
        if done[row] == 0:
            times.text(0, row, f" {point.state.lower()}", va="center", color=SOFT, fontsize=size)
    times.set_yticks(rows, labels, fontsize=size)
    times.set_ylim(count - 0.4, -0.6)
    times.set_title(gettext("Time"))
    times.set_xlabel(gettext("seconds"))
    rates.set_title(gettext("Throughput"))
    rates.set_xlabel(unit)
    rates.sharey(times)
    rates.tick_params(axis="y", labelleft=False)
    for plot in (times, rates):
        plot.grid(axis="x")
        plot.locator_params(axis="x", nbins=5)
    handles, names = times.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=3)
    return figure


def rate(sweep: Sweep) -> tuple[str, str]:
    """Return the quantity and its unit: tokens where answers were generated, else samples."""
    generated = any(point.per_second("output_tokens") for point in sweep.points)
    if generated:
        return "output_tokens", gettext("output tokens per second")
    return "scored", gettext("samples per second")
