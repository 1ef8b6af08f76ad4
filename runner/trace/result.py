"""The result of a trace, as trace.json has it."""

from __future__ import annotations

from dataclasses import dataclass

from runner.plan import TracePlan
from runner.status import EXIT_STATUS, INACCURATE, NO_VERDICT, Status
from runner.trace.departures import Found
from runner.trace.experts import Experts, Routing
from runner.trace.graphs import Graph


@dataclass(frozen=True)
class Traced:
    """One of the traced runs: the user's name for its configuration, and what it ran on."""

    name: str
    directory: str
    runtime: str
    layout: str
    dtype: str


@dataclass(frozen=True)
class TraceResult:
    """What a trace has found.

    `reference` is the run whose answers were replayed, `covered` the rows of each question, and
    `prompts` the questions whose prompts differ; then nothing else is compared. `alone` has the
    modules that only A, and only B, has under that name. `noise` says how the noise was measured.
    `routings` has the blocks of experts, and `experts` those of the first block that departs.
    `graphs` has the configurations that run in graph mode, if nothing departs in eager mode.
    """

    reference: str
    first: Traced
    second: Traced
    noise: str
    questions: tuple[str, ...]
    covered: TracePlan
    found: Found | None
    prompts: tuple[str, ...] = ()
    alone: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    notes: tuple[str, ...] = ()
    routings: tuple[Routing, ...] = ()
    experts: Experts | None = None
    graphs: tuple[Graph, ...] = ()

    @property
    def exit_status(self) -> int:
        """3 if something differs, 4 if nothing could be compared, else 0."""
        if self.prompts:
            return INACCURATE
        if self.found is None or not self.found.modules:
            return NO_VERDICT
        if any(each.departs for each in self.graphs):
            return INACCURATE
        return EXIT_STATUS[Status.PASSED] if self.found.first is None else INACCURATE
