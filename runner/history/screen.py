"""Terminal output of a history."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.history import findings
from runner.history.page import COLOURS, NAME, name_of
from runner.history.result import History, State
from runner.present import style
from runner.visible import visible

# More series are on the page only.
ROWS = 24
# Series whose commands are printed.
COMMANDS = 3


def show(out: Console, history: History) -> None:
    """Print the result, the series, and what to run next."""
    out.print(Text(visible(findings.summary(history)), "bold"))
    span = f", {history.first} to {history.latest}" if history.first else ""
    out.print(Text(visible(f"{history.runs} runs in {history.source}{span}")))
    table = Table(box=SIMPLE_HEAD)
    for column in ("Model", "Series"):
        table.add_column(column, overflow="fold")
    for column in ("Nights", "Last"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("Result", overflow="fold")
    for each in history.series[:ROWS]:
        last = each.last
        known = last is not None and last.value is not None
        table.add_row(
            visible(each.model),
            visible(f"{name_of(each)} {each.label}".strip()),
            str(len(each.nights)),
            findings.value(each, last.value) if known and last and last.value is not None else "",
            Text.assemble(
                Text(each.state.value, style.COLOURS.get(COLOURS[each.state], style.DOUBT)),
                f" {visible(each.headline)}",
            ),
        )
    out.print(table)
    if len(history.series) > ROWS:
        out.print(f"{len(history.series) - ROWS} more series in {NAME}.html")
    changed = [each for each in history.series if each.commands and each.state is not State.NO_DROP]
    for each in changed[:COMMANDS]:
        out.print(Text(visible(f"{each.model} {name_of(each)} {each.label}".strip()), "bold"))
        for sentence in each.findings:
            out.print(f"- {visible(sentence)}", markup=False)
        for command in each.commands:
            out.print(f"  {visible(command)}", markup=False, soft_wrap=True)
    for problem in history.unreadable:
        out.print(Text(visible(f"not read: {problem}"), style.DOUBT))


def show_page(out: Console, directory: Path) -> None:
    """Print the path of the page."""
    page = style.file_link(directory / f"{NAME}.html")
    out.print(Text.assemble("report: ", page, f" (also: {NAME}.md, {NAME}.json)"))
