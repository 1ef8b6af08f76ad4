"""Terminal output of a trace."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.present import style
from runner.present.formats import times
from runner.trace.dump import INDEX, Index, megabytes
from runner.trace.findings import Part, coverage, findings, headline, parts
from runner.trace.page import NAME
from runner.trace.result import TraceResult

# More parts are on the page only.
ROWS = 14
# Of them, those before the origin.
BEFORE = 4


def show(out: Console, result: TraceResult) -> None:
    """Print the result, both runs, and the parts of the model around the origin."""
    colour = {0: "bold green", 3: "bold red"}.get(result.exit_status, style.DOUBT)
    out.print(Text(headline(result), colour))
    for letter, run in (("A", result.first), ("B", result.second)):
        out.print(f"{letter}  {run.name}: {run.runtime}, {run.layout}, {run.dtype}")
    for sentence in findings(result):
        out.print(f"- {sentence}")
    if result.found is not None and result.found.modules:
        out.print(_table(parts(result.found)), soft_wrap=False)
    out.print(f"covered: {coverage(result)}")


def show_page(out: Console, directory: Path) -> None:
    """Print the path of the page."""
    page = style.file_link(directory / f"{NAME}.html")
    out.print(Text.assemble("report: ", page, f" (also: {NAME}.md, {NAME}.json)"))


def show_dump(out: Console, directory: Path, index: Index) -> None:
    """Print where a dump is, and what is left out."""
    file = style.file_link((directory / INDEX).resolve())
    said = f" ({len(index.arrays)} arrays, {megabytes(index.size)})"
    out.print(Text.assemble("dump: ", file, said))
    if index.left_out:
        out.print(
            f"left out of the dump, which has at most {megabytes(index.limit)}: "
            f"{len(index.left_out)} questions (names in {INDEX})"
        )


def _table(found: list[Part]) -> Table:
    origin = next((place for place, each in enumerate(found) if each.origin), 0)
    start = max(min(origin - BEFORE, len(found) - ROWS), 0)
    shown = found[start : start + ROWS]
    left_out = len(found) - len(shown)
    table = Table(caption=f"{left_out} more in {NAME}.html" if left_out else None, box=SIMPLE_HEAD)
    for column in ("Phase", "Part", "Largest ratio in"):
        table.add_column(column, overflow="fold")
    for column in ("Difference", "Noise", "Ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in shown:
        worst = each.worst
        table.add_row(
            each.phase,
            each.name,
            worst.module.removeprefix(f"{each.name}."),
            f"{worst.difference:.2g}",
            f"{worst.noise:.2g}",
            times(worst.ratio),
            style="bold red" if each.origin else "red" if worst.departs else "",
        )
    return table
