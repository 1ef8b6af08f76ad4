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
from runner.history.summary import summary
from runner.language import N_, gettext
from runner.present import style
from runner.visible import visible

# More series are on the page only.
ROWS = 24
# Series whose commands are printed.
COMMANDS = 3


def show(out: Console, history: History) -> None:
    """Print the result, the series, and what to run next."""
    out.print(Text(visible(summary(history)), "bold"))
    out.print(Text(visible(_extent(history))))
    table = Table(box=SIMPLE_HEAD)
    for column in (N_("Model"), N_("Series")):
        table.add_column(gettext(column), overflow="fold")
    for column in (N_("Nights"), N_("Last")):
        table.add_column(gettext(column), justify="right", no_wrap=True)
    table.add_column(gettext("Result"), overflow="fold")
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
        more = len(history.series) - ROWS
        out.print(gettext("{count} more series in {file}", count=more, file=NAME + ".html"))
    changed = [each for each in history.series if each.commands and each.state is not State.NO_DROP]
    for each in changed[:COMMANDS]:
        out.print(Text(visible(f"{each.model} {name_of(each)} {each.label}".strip()), "bold"))
        for sentence in each.findings:
            out.print(f"- {visible(sentence)}", markup=False)
        for command in each.commands:
            out.print(f"  {visible(command)}", markup=False, soft_wrap=True)
    for problem in history.unreadable:
        told = gettext("not read: {problem}", problem=problem)
        out.print(Text(visible(told), style.DOUBT))


def _extent(history: History) -> str:
    told = {"runs": history.runs, "source": history.source}
    if not history.first:
        return gettext("{runs} runs in {source}", **told)
    return gettext(
        "{runs} runs in {source}, {first} to {latest}",
        **told,
        first=history.first,
        latest=history.latest,
    )


def show_page(out: Console, directory: Path) -> None:
    """Print the path of the page."""
    page = style.file_link(directory / f"{NAME}.html")
    files = ", ".join(f"{NAME}{ending}" for ending in (".md", ".json"))
    also = gettext(" (also: {files})", files=files)
    out.print(Text.assemble(gettext("report: "), page, also))
