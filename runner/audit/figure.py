"""Draws the operating characteristic of gates: the share of runs that pass, by true accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.audit.entry import Audit
from runner.errors import UserError
from runner.present.plots import PALETTE, SOFT, WIDTH, blank, document, png, styled, svg
from runner.verdict import boundary

STEPS = 400
# A share of runs that can't be told from the axis.
SMALL = 0.003
SUFFIXES = (".svg", ".png")
# Of a line with the gate's own number of samples, and with the other.
STYLES = ("solid", (0, (2, 1.5)))
# Of the lowest and the highest tolerated value.
BOUNDARY = (0, (1, 2))


def draw(audits: Sequence[Audit], file: Path) -> None:
    """Write the figure to a new file, as SVG or PNG.

    Raises:
        UserError: if there is nothing to draw or too much, or the file can't be written.
    """
    if file.suffix not in SUFFIXES:
        raise UserError(f"--figure {file}: must end in {' or '.join(SUFFIXES)}")
    drawn = [each for each in audits if each.found]
    if not drawn:
        raise UserError(f"--figure {file}: none of these gates can be audited")
    if len(drawn) > len(PALETTE):
        raise UserError(
            f"--figure {file}: {len(drawn)} gates are too many for one figure (at most "
            f"{len(PALETTE)}); name fewer models"
        )
    content = figure(drawn, file.suffix)
    try:
        with file.open("xb") as sink:
            sink.write(content)
    except OSError as error:
        raise UserError(f"--figure {file}: {error.strerror}") from error


@styled()
def figure(audits: Sequence[Audit], suffix: str) -> bytes:
    """Return the figure as SVG, which follows dark mode, or PNG: a line for each gate."""
    from matplotlib.lines import Line2D

    drawn, plot = blank(WIDTH, 2.9 + 0.2 * len(audits))
    low = min(map(_lowest, audits))
    for each, colour in zip(audits, PALETTE, strict=False):
        _curves(plot, each, colour, low)
    plot.set_xlim(low, 1)
    plot.set_ylim(0, 1.03)
    for axis in (plot.xaxis, plot.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    plot.set_xlabel("true accuracy of the stack (dot: baseline; dotted lines: tolerated range)")
    plot.set_ylabel("share of runs that pass")
    plot.grid()
    handles, _ = plot.get_legend_handles_labels()
    for samples in sorted({found.samples for each in audits for found in each.found[1:]}):
        handles.append(Line2D([], [], color=SOFT, linestyle=STYLES[1], label=f"samples={samples}"))
    drawn.legend(handles=handles, loc="outside upper left", fontsize=9)
    if suffix == ".png":
        return png(drawn)
    return document(svg(drawn, f"Share of runs that pass: {'; '.join(map(_told, audits))}"))


def _lowest(audit: Audit) -> float:
    """The lowest accuracy with which the gate can pass, in whole percent."""
    gates = [audit.entry.gate(found.samples) for found in audit.found]
    whole = range(100)
    return next((a / 100 for a in whole if any(g.passes(a / 100) > SMALL for g in gates)), 0.0)


def _curves(plot: Any, audit: Audit, colour: str, low: float) -> None:
    entry = audit.entry
    accuracies = [low + (1 - low) * step / STEPS for step in range(STEPS + 1)]
    for found, style in zip(audit.found, STYLES, strict=False):
        gate = entry.gate(found.samples)
        passes = [gate.passes(accuracy) for accuracy in accuracies]
        (line,) = plot.plot(accuracies, passes, color=colour, linestyle=style)
        if found is audit.found[0]:
            line.set_label(f"{entry.name}: {entry.limits}, n = {entry.questions}")
            plot.plot(entry.baseline, gate.passes(entry.baseline), "o", color=colour)
            for end in entry.tolerated:
                if end is not None and end >= low:
                    plot.axvline(end, color=colour, linestyle=BOUNDARY, linewidth=1)


def _told(audit: Audit) -> str:
    held = boundary.said(audit.entry.tolerated)
    return f"{audit.entry.name}{f', {held}' if held else ''}: {audit.said.rstrip('.')}"
