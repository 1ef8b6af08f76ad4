"""The figure of a trace: differences along the depth of the model, one plot for each phase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from runner.present.plots import BAD, BLUE, SOFT, WIDTH, blank, styled, svg, thin
from runner.trace.departures import FACTOR, Found, Module
from runner.trace.findings import layers_of

HEIGHT = 2.5
# An axis ends this far below the noise, in powers of ten; smaller differences are drawn there.
BELOW = 1.0


def figures(found: Found) -> list[tuple[str, Markup]]:
    """Return a plot for each phase that was traced."""
    phases = dict.fromkeys(each.phase for each in found.modules)
    plots = []
    for phase in phases:
        modules = [each for each in found.modules if each.phase == phase]
        with styled():
            plots.append((phase, _draw(phase, modules, found.first)))
    return plots


def _draw(phase: str, modules: Sequence[Module], first: Module | None) -> Markup:
    figure, plot = blank(WIDTH, HEIGHT)
    places = range(len(modules))
    low = 10.0 ** (math.floor(math.log10(min(each.noise for each in modules))) - BELOW)
    ends = [max(FACTOR * each.noise, each.difference) for each in modules]
    top = 10.0 ** math.ceil(math.log10(2 * max(ends)))
    values = [min(max(each.difference, low), top) for each in modules]
    limit = [FACTOR * each.noise for each in modules]
    plot.fill_between(places, low, limit, color=SOFT, alpha=0.22, linewidth=0, step="mid")
    plot.plot(places, values, color=BLUE, linewidth=1)
    dots = [place for place in places if not modules[place].departs]
    marked = [place for place in places if modules[place].departs]
    plot.plot(dots, [values[place] for place in dots], "o", color=BLUE, markersize=3)
    plot.plot(marked, [values[place] for place in marked], "o", color=BAD, markersize=4)
    if first in modules and first is not None:
        place = modules.index(first)
        plot.axvline(place, color=BAD, linewidth=1, linestyle=(0, (4, 3)))
        right = place > len(modules) / 2
        plot.annotate(
            first.module,
            (place, top),
            xytext=(-5 if right else 5, -4),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top",
            color=BAD,
            fontsize=9,
            weight="bold",
        )
    plot.set_yscale("log")
    plot.set_ylim(low, top)
    plot.minorticks_off()
    plot.yaxis.set_major_formatter("{x:g}")
    plot.set_xlim(-0.8, len(modules) - 0.2)
    plot.set_ylabel("relative difference")
    titles = {}
    for place, each in enumerate(modules):
        mark = f"{phase}-{place}"
        plot.axvspan(place - 0.5, place + 0.5, fill=False, linewidth=0, gid=mark)
        titles[mark] = (
            f"{each.module}: {each.difference:.2g}, noise {each.noise:.2g}, ratio {each.ratio:.2g}"
        )
    _name_layers(plot, modules)
    plot.grid(axis="y")
    plot.spines["left"].set_visible(False)
    told = f"Relative differences by module, {phase}. {'; '.join(list(titles.values())[:200])}"
    return svg(figure, told, titles)


def _name_layers(plot: Any, modules: Sequence[Module]) -> None:
    """Label the first module of each layer with the layer's number."""
    layers = layers_of(modules)
    starts: dict[str, int] = {}
    for place, each in enumerate(modules):
        if each.module in layers:
            starts.setdefault(layers[each.module], place)
    kept, names = thin([name.rpartition(".")[2] for name in starts])
    plot.set_xticks([list(starts.values())[number] for number in kept], names)
    plot.tick_params(axis="x", bottom=True, color=SOFT)
    plot.set_xlabel(", ".join(dict.fromkeys(name.rpartition(".")[0] for name in starts)))
