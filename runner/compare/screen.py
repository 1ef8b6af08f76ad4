"""Terminal output of a comparison."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.compare.amounts import bare, bounds
from runner.compare.comparison import Comparison
from runner.compare.comparison_findings import findings
from runner.compare.comparison_page import NAME
from runner.compare.headline import headline
from runner.compare.sweep import ComparedPoint, ComparedSweep
from runner.language import gettext
from runner.present import style
from runner.present.formats import number
from runner.sweep.axis_findings import bare_probability

# More subjects are on the page only.
ROWS = 12


def show(out: Console, comparison: Comparison) -> None:
    """Print the verdict, both runs, the table and the findings."""
    status = style.verdict(comparison.ruling.status.value)
    out.print(Text.assemble(status, f": {headline(comparison)}"))
    for letter, run in (("A", comparison.first), ("B", comparison.second)):
        asked = gettext("{count} questions", count=run.samples)
        parts = (run.model, run.layout, run.dtype, run.platform, asked, run.each, run.limited)
        told = gettext(", ").join(filter(None, parts))
        out.print(f"{letter}  {run.name}: {told}")
    if comparison.scores:
        out.print(_table(comparison), soft_wrap=False)
    for sentence in findings(comparison):
        out.print(f"- {sentence}")


def _table(comparison: Comparison) -> Table:
    rows = comparison.scores
    shown = [row for row in rows if not row.subject]
    subjects = sorted((row for row in rows if row.subject), key=lambda row: row.p_adjusted)
    shown += subjects[: max(ROWS - len(shown), 0)]
    left_out = len(rows) - len(shown)
    caption = gettext("{count} more in compare.html", count=left_out) if left_out else None
    table = Table(caption=caption, box=SIMPLE_HEAD)
    table.add_column("", overflow="fold")
    names = (gettext("95 % interval"), gettext("worse"), gettext("better"))
    for column in ("A", "B", "B − A", *names, "n", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in sorted(shown, key=rows.index):
        table.add_row(
            f"  {row.task}" if row.subject else row.name,
            number(row.first, 3),
            number(row.second, 3),
            bare(row.difference, row.share),
            bounds(row),
            str(row.worse),
            str(row.better),
            str(row.n),
            bare_probability(row.p_adjusted),
        )
    return table


def show_point(out: Console, point: ComparedPoint) -> None:
    """Print one line for a compared point."""
    status = style.verdict(point.status.value)
    status.pad_right(12 - len(point.status.value))
    out.print(Text.assemble(f"{point.number:>3}  ", status, f"  {point.label}: {point.said}"))


def show_sweep(out: Console, compared: ComparedSweep) -> None:
    """Print the summary of all points."""
    counts = gettext(", ").join(f"{count} {state}" for state, count in compared.counts.items())
    status = style.verdict(compared.status.value)
    out.print(Text.assemble("\n", status, f": {compared.headline} ({counts})"))


def show_page(out: Console, directory: Path) -> None:
    """Print the path of the page."""
    page = style.file_link(directory / f"{NAME}.html")
    others = gettext(", ").join([f"{NAME}.md", f"{NAME}.json"])
    also = gettext(" (also: {files})", files=others)
    out.print(Text.assemble(gettext("report: "), page, also))
