"""Terminal output of a suite: the sentence, one row per entry, all entries together."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from runner.language import N_, gettext
from runner.present import style
from runner.present.formats import duration, number
from runner.suite.decision import advice
from runner.suite.markdown import change, reasons
from runner.suite.result import SuiteResult

NUMBERS = (N_("value"), N_("baseline"), N_("change"), N_("time"))
WIDTH, REASONS, LONGEST_REASON = 100, 12, 300


def show(out: Console, result: SuiteResult) -> None:
    """Print the result."""
    out.print(f"\n{result.sentence}")
    if more := advice(result.entries):
        out.print(more)
    out.print(_table(result), soft_wrap=False, width=min(out.width, WIDTH))
    for line in reasons(result.entries)[:REASONS]:
        out.print(line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…")
    for line in result.joint:
        out.print(line)


def _table(result: SuiteResult) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column(gettext("entry"), overflow="fold")
    table.add_column(gettext("tier"), no_wrap=True)
    longest = max((len(entry.verdict) for entry in result.entries), default=0)
    table.add_column(gettext("verdict"), no_wrap=True, min_width=longest)
    for name in NUMBERS:
        table.add_column(gettext(name), justify="right", no_wrap=name != "change")
    for entry in result.entries:
        shown = entry.shown
        table.add_row(
            entry.name,
            entry.shown_tier,
            style.verdict(entry.verdict),
            number(shown.value, 3) if shown is not None else "",
            number(shown.baseline, 3) if shown is not None else "",
            change(entry),
            duration(entry.seconds) if entry.seconds is not None else "",
        )
    return table
