"""Terminal output of a search; plain lines while it runs. `tree` shows it in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from runner.present import style
from runner.present.formats import duration
from runner.why import findings
from runner.why.cost import Cost
from runner.why.ddmin import State
from runner.why.found import Found, Level, Probe
from runner.why.ladder import Rung, Tried
from runner.why.page import NAME
from runner.why.result import Why, lines
from runner.why.switches import Differences, Switch

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
    if planned.side_by_side:
        out.print(
            "on Ray, probes of a level run at the same time; the time is with enough devices for "
            "all of them. Those that turn out not to be needed are stopped, and count as well"
        )


def show_ladder(out: Console, name: str, rungs: Sequence[Rung], side_by_side: bool = False) -> None:
    """Print the changes that would be tried."""
    out.print(f"changes to {name}, up to the first with significantly higher scores:")
    for number, rung in enumerate(rungs, 1):
        known = f" ({rung.known})" if rung.known else ""
        out.print(f"{number:>3}  {rung.change}: {' '.join(rung.overrides)}{known}")
    out.print("each takes a replay of the bad run's answers, and another evaluation if they differ")
    if side_by_side:
        out.print("on Ray, all changes are tried at the same time, also those after the first")


class Lines:
    """Prints a line for each rung and each probe as soon as it is decided."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._rungs = self._probes = 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def ahead(self, levels: Sequence[Level]) -> None:
        """Take note of what may be asked next."""

    def follow(self, found: Found, switches: Sequence[Switch]) -> None:
        """Take note of a search that begins; `found` grows with it."""

    def tried(self, tried: Tried) -> None:
        """Print what became of a rung."""
        self._rungs += 1
        self._out.print(f"{self._rungs:>3}  {tried.rung.change}: {tried.said}")

    def tell(self, probe: Probe) -> None:
        """Print what a probe showed."""
        self._probes += 1
        self._out.print(Text.assemble(f"{self._probes:>3}  ", decided(probe)))


def decided(probe: Probe, between: str = "; ") -> Text:
    """Return `differs   settings 3, 4: RMS 0.11 nats; 22 of 22 questions as in the bad run`."""
    said, colour = findings.WORDS[probe.state], COLOURS[probe.state]
    shift = findings.size(probe)
    parts = [f"RMS {shift} nats" if shift else "", findings.evidence_of(probe)]
    return Text.assemble(
        (f"{said:<9}", colour), f" {probe.purpose}: {between.join(filter(None, parts))}"
    )


def show(out: Console, why: Why, directory: Path) -> None:
    """Print the answer and where its pages are."""
    out.print(Text.assemble("\n", (findings.headline(why), "bold")))
    for sentence in findings.findings(why):
        out.print(f"- {sentence}")
    page = style.file_link(directory / f"{NAME}.html")
    out.print(Text.assemble("report: ", page, f" (also: {NAME}.md, {NAME}.json)"))
