"""Plots for the pages as SVG, for sweep.md and MLflow as PNG; all drawn by matplotlib.

A plot is drawn in the light colours of page.css. In its SVG they are replaced by the page's CSS
variables, so the plot follows dark mode, and its text stays text in the page's font.

A strip or bar in a table is HTML (strip.html.j2), not a plot: it has no axes, its width is the
cell's, and a page can have hundreds of them, while a plot takes about 40 ms and 6 kB. Importing
matplotlib takes 0.3 s: a run calls `load` while its engine works.

Does not use pyplot, so there is no display and no global figure.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from runner.visible import visible

_CSS = (Path(__file__).parents[1] / "templates" / "page.css").read_text(encoding="utf-8")
# Its variables in light and dark mode, which come first.
_VARIABLES = _CSS.partition("* {")[0]
COLOURS = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", _VARIABLES.partition("@media")[0]))
PAPER, INK, SOFT, LINE = (COLOURS[name] for name in ("paper", "ink", "soft", "line"))
BLUE, BAD, WASH = (COLOURS[name] for name in ("blue", "bad", "goodwash"))
# Okabe & Ito's colours, which stay apart for every kind of colour vision, in light and dark mode;
# their yellow is too pale, and their black is the page's ink.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
# In inches. A plot of this width is readable on a telephone.
WIDTH = 5.6
# A wider plot is not made smaller than this part of its size; it scrolls.
SMALLEST = 0.65
MOST_TICKS = 24
LETTERS_PER_INCH = 10
PNG_DPI = 180
SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "figure.titlesize": "large",
    "figure.titleweight": "bold",
    "font.sans-serif": ["DejaVu Sans"],  # measured; the page's font is usually narrower
    "font.size": 10,
    "grid.color": LINE,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is not a formula
    "xtick.bottom": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "ytick.left": False,
}


def load() -> None:
    """Import matplotlib and its SVG writer."""
    # It warns of a home directory that it cannot write its cache to.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style while plots are drawn and saved; also a decorator."""
    load()
    from matplotlib import rc_context

    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def blank(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    """Return a figure (inches) and its axes, one or a row."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), layout="constrained")
    plots = figure.subplots(1, panels, squeeze=False)[0]
    for plot in plots:
        plot.patch.set_visible(False)
    return figure, plots if panels > 1 else plots[0]


def name_columns(plot: Any, names: Sequence[str], middle: float = 0.0) -> None:
    """Label columns at 0, 1, … plus `middle`, slanted if labels would overlap."""
    numbers, shown = thin(names)
    places = [number + middle for number in numbers]
    if sum(len(name) + 2 for name in shown) > LETTERS_PER_INCH * plot.figure.get_figwidth():
        slanted = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        plot.set_xticks(places, shown, **slanted)
    else:
        plot.set_xticks(places, shown)


def thin(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return positions and labels of ticks, thinned out if there are too many."""
    step = -(-len(names) // MOST_TICKS)
    places = list(range(0, len(names), step or 1))
    return places, [names[place] for place in places]


def png(figure: Any) -> bytes:
    """Return the figure in light colours."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=PNG_DPI)
    return sink.getvalue()


def svg(figure: Any, told: str, titles: Mapping[str, str] | None = None) -> Markup:
    """Return the figure as an element of a page. Changes the figure.

    `told` is the alternative text; `titles` are tooltips by the gid of what is drawn.
    """
    from matplotlib import rc_context

    figure.patch.set_visible(False)
    sink = io.StringIO()
    with rc_context({"svg.hashsalt": told}):  # ids of markers, unique on the page
        figure.savefig(
            sink, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    root = ElementTree.fromstring(visible(sink.getvalue()))
    _embed(root, titles or {})
    root.set("role", "img")
    root.set("aria-label", visible(told))
    if (width := figure.get_figwidth()) > WIDTH:
        root.set("style", f"min-width:{72 * max(SMALLEST * width, WIDTH):.0f}pt")
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", LINK)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def document(drawn: Markup) -> bytes:
    """Return an element that `svg` made as the content of a file, which follows dark mode too."""
    own = (
        "svg { background: var(--paper); } text { font-family: system-ui, sans-serif !important; }"
    )
    head, end, rest = drawn.partition(">")
    return f"{head}{end}<style>{_VARIABLES}{own}</style>{rest}\n".encode()


def _embed(root: ElementTree.Element, titles: Mapping[str, str]) -> None:
    """Colours become variables; what is no use to a page is removed.

    That is a style for all elements, ids, and clip paths, whose ids another figure's could repeat.
    """
    for defs in root.findall(f"{{{SVG}}}defs"):
        root.remove(defs)
    used = {element.get(f"{{{LINK}}}href", "")[1:] for element in root.iter()}
    for element in root.iter():
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
        for name in ("d", "transform", "x", "y"):
            if name in element.attrib:
                element.set(name, re.sub(r"(\.\d\d)\d+", r"\1", element.attrib[name]))
        element.attrib.pop("clip-path", None)
        if style := element.get("style"):
            element.set("style", _in_variables(style))
        if (name := element.get("id", "")) not in used:
            element.attrib.pop("id", None)
        if name in titles:
            # Also where it has no colour.
            element.set("pointer-events", "all")
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text = visible(titles[name])
            element.insert(0, title)


def _in_variables(style: str) -> str:
    for name, colour in COLOURS.items():
        style = style.replace(colour, f"var(--{name})")
    return style
