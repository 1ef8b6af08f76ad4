"""Prints audits: a table with a row for each number of samples, and a sentence for each gate."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.audit.entry import LOSSES, Audit, Characteristic
from runner.present.style import DOUBT
from runner.verdict.gates import share

NOTE = (
    "k: answers for each question; more than one needs sampled answers (temperature above 0).",
    "−5: percentage of runs in which the gate passes a stack that lost 5 points.",
    "fails: percentage in which it fails an unchanged stack, if the baseline is exact;",
    "1 run: the same if the baseline is the result of one run.",
    "All answers are taken as independent; docs/gates.md says what that means.",
)


def show(out: Console, audits: Sequence[Audit]) -> None:
    """Print the table, how to read it, and the sentences; weak gates are marked."""
    if any(each.found for each in audits):
        out.print(_table(audits), soft_wrap=False)
        out.print("\n".join((*NOTE, "")))
    for each in audits:
        out.print(
            Text.assemble(f"{each.entry.name}: ", (each.said, DOUBT if each.weak else "")),
            soft_wrap=False,
        )


def _table(audits: Sequence[Audit]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("gate", overflow="fold", min_width=12)
    for column in ("n", "k", *(f"−{100 * loss:g}" for loss in LOSSES), "fails", "1 run"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in audits:
        if not each.found:
            continue
        entry = each.entry
        columns = ("\n".join(cells) for cells in zip(*map(_row, each.found), strict=True))
        name = f"{entry.file}\n{entry.metric}\n{entry.limits}"
        table.add_row(name, str(entry.questions), *columns)
        table.add_section()
    return table


def _row(found: Characteristic) -> list[str]:
    parts = [*found.passes.values(), found.fails, found.fails_measured]
    numbers = ["" if part is None else share(part).removesuffix(" %") for part in parts]
    return [str(found.samples), *numbers]
