"""What a search found, as why.json has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.trace.result import TraceResult
from runner.why.ddmin import State
from runner.why.evidence import ERROR
from runner.why.found import Cause, Found, Probe
from runner.why.ladder import Tried
from runner.why.switches import Differences, Switch


@dataclass(frozen=True)
class Command:
    """Shell commands that show the difference or its absence; `said` is what they run."""

    said: str
    text: str


@dataclass(frozen=True)
class Origin:
    """A trace of a cause, with its pages in `directory`; None with a reason if there is none."""

    directory: str
    trace: TraceResult | None
    reason: str = ""


@dataclass(frozen=True)
class Stack:
    """What the probes ran on, without paths: for a report to somebody else.

    `asked` are the good run's own overrides that name no file.
    """

    model: str
    tasks: str
    hardware: str
    versions: dict[str, str]
    asked: tuple[str, ...]


@dataclass(frozen=True)
class Why:
    """Two runs, how they differ, and which differences matter.

    `switches` has, for each switch, its changes as lines for a reader; causes and probes refer to
    them by number, from 0. `rest` says whether the bad run still differs without all causes; None
    if that is unknown. `error` is the chance that any of the probes was taken for the other side.
    """

    good: str
    bad: str
    switches: tuple[tuple[str, ...], ...]
    asked: tuple[str, ...]
    environment: tuple[str, ...]
    probes: tuple[Probe, ...]
    causes: tuple[Cause, ...]
    rest: State | None
    noise: tuple[str, ...]
    notes: tuple[str, ...]
    starts: int
    commands: tuple[Command, ...] = ()
    stack: Stack | None = None
    ladder: tuple[Tried, ...] = ()
    # For each cause, in their order.
    origins: tuple[Origin, ...] = ()
    # What comes with engine.python, and the effect of the bad run's data type that counts as noise.
    versions: tuple[str, ...] = ()
    rounding: float | None = None
    error: float = ERROR
    # The cluster's nodes on which probes ran; empty if all ran on this machine.
    nodes: tuple[str, ...] = ()

    @property
    def whole(self) -> Probe | None:
        """The probe with all settings of the bad run."""
        return next((each for each in self.probes if each.name == "bad"), None)

    @property
    def guilty(self) -> frozenset[int]:
        """The switches of all causes."""
        return frozenset(number for each in self.causes for number in each.switches)

    @property
    def untested(self) -> list[tuple[str, str]]:
        """Each probe that could not be decided, and why."""
        return [
            (each.purpose, each.reason or "the questions do not agree")
            for each in self.probes
            if each.state is State.UNRESOLVED
        ]


def result(
    good: str,
    bad: str,
    differ: Differences,
    found: Found,
    starts: int,
    nodes: Sequence[str] = (),
    commands: Sequence[Command] = (),
    stack: Stack | None = None,
) -> Why:
    """Put together what is written and shown."""
    return Why(
        good=good,
        bad=bad,
        switches=tuple(lines(each) for each in differ.switches),
        asked=differ.asked,
        environment=differ.environment,
        probes=tuple(found.probes),
        causes=tuple(found.causes),
        rest=found.rest,
        noise=tuple(found.noise),
        notes=tuple(found.notes),
        starts=starts,
        nodes=tuple(nodes),
        commands=tuple(commands),
        stack=stack,
        versions=differ.versions,
        rounding=found.rounding,
    )


def lines(switch: Switch) -> tuple[str, ...]:
    """The changes of a switch, for example `engine.dtype: float32 → bfloat16`."""
    return tuple(map(str, switch.changes))


def joined(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
