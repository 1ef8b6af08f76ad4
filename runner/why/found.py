"""What a search asks and finds: its probes and causes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.stats.excess import Excess
from runner.why.ddmin import Changes, State
from runner.why.evidence import Side


@dataclass(frozen=True)
class Ask:
    """A probe before it runs: its name, and the changes and questions by which it runs.

    `purpose` says for a reader what it tests.
    """

    name: str
    purpose: str
    changes: Mapping[str, Any]
    questions: Mapping[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Level:
    """Probes that do not depend on each other, in the order in which the search asks for them.

    It may not need all of them.
    """

    title: str
    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Probe:
    """A replay and what it showed.

    `switches` are the numbers of the switches that had the bad run's values, out of all. `shift` is
    the mean difference from the good run, in nats² (infinite if one is not a number), with its 95 %
    `interval`, and `side` and `excess` are the tests that decided. Of all `tokens`, `flips` are no
    longer the likeliest.
    """

    name: str
    purpose: str
    switches: Changes
    state: State
    directory: str
    command: str
    shift: float | None = None
    side: Side | None = None
    excess: Excess | None = None
    reason: str = ""
    interval: tuple[float, float] | None = None
    flips: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Cause:
    """A smallest set of switches that makes the run differ, and the probe that has only these.

    `minimal` says that it does not differ without any one of them; False if that could not be told.
    `distinct` of all `questions` differ in the run that was searched. `traced` are documents, by
    task, in which to look for the module.
    """

    switches: Changes
    probe: Probe
    minimal: bool = True
    distinct: int = 0
    questions: int = 0
    traced: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class Found:
    """What the search has found so far.

    `rest` is the state of the bad run without all causes; None if it is not known yet. `rounding`
    is the difference that the bad run's data type makes alone, in nats, if it counts as noise.
    """

    probes: list[Probe] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    rest: State | None = None
    noise: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rounding: float | None = None
