"""Terminal output of a search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from runner.present import style
from runner.present.formats import duration
from runner.why import findings
from runner.why.cost import Cost
from runner.why.ddmin import State
from runner.why.found import Probe
from runner.why.ladder import Rung, Tried
from runner.why.page import NAME
from runner.why.result import Why, lines
from runner.why.switches import Differences

COLOURS = {State.GOOD: "green", State.BAD: "red", State.UNRESOLVED: "yellow"}


def show_differences(out: Console, differ: Differences, planned: Cost) -> None:
    """Print what differs, and what the search will cost."""
    one = len(differ.switches) == 1
    out.print(
        f"{len(differ.switches)} setting{'' if one else 's'} of the engine differ{'s' * one}:"
    )
    for number, switch in enumerate(differ.switches, 1):
        out.print(f"{number:>3}  {' + '.join(lines(switch))}")
    for title, said in (
        ("not searched, because they change the questions", differ.asked),
        ("not searched, because no setting changes them", differ.environment),
    ):
        if said:
            out.print(f"{title}:")
            for line in said:
                out.print(f"     {line}")
    time = f", {duration(planned.seconds)}" if planned.seconds is not None else ""
    out.print(
        f"at most {planned.probes} probes and {planned.traced} more for the trace, "
        f"{planned.starts} engine starts{time} for one cause; interactions and further causes take "
        "more"
    )


def show_ladder(out: Console, name: str, rungs: Sequence[Rung]) -> None:
    """Print the changes that would be tried."""
    out.print(f"changes to {name}, up to the first with significantly higher scores:")
    for number, rung in enumerate(rungs, 1):
        known = f" ({rung.known})" if rung.known else ""
        out.print(f"{number:>3}  {rung.change}: {' '.join(rung.overrides)}{known}")
    out.print("each takes a replay of the bad run's answers, and another evaluation if they differ")


class Ladder:
    """Prints a line for each rung as soon as it was tried."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._number = 0

    def tell(self, tried: Tried) -> None:
        """Print what became of a rung."""
        self._number += 1
        self._out.print(f"{self._number:>3}  {tried.rung.change}: {tried.said}")


class Progress:
    """Prints a line for each probe as soon as it is decided."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._number = 0

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Show that a probe is running, in a terminal."""
        with self._out.status(f"probe {self._number + 1} ({name}) …"):
            yield

    def tell(self, probe: Probe) -> None:
        """Print what a probe showed."""
        self._number += 1
        said, colour = findings.WORDS[probe.state], COLOURS[probe.state]
        shift = findings.size(probe)
        parts = [f"RMS {shift} nats" if shift else "", findings.evidence_of(probe)]
        self._out.print(
            Text.assemble(
                f"{self._number:>3}  ",
                (f"{said:<9}", colour),
                f" {probe.purpose}: {'; '.join(filter(None, parts))}",
            )
        )


def show(out: Console, why: Why, directory: Path) -> None:
    """Print the answer and where its pages are."""
    out.print(Text.assemble("\n", (findings.headline(why), "bold")))
    for sentence in findings.findings(why):
        out.print(f"- {sentence}")
    page = style.file_link(directory / f"{NAME}.html")
    out.print(Text.assemble("report: ", page, f" (also: {NAME}.md, {NAME}.json)"))
