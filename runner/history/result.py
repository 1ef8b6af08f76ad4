"""What a history found, as history.json has it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import ClassVar

from pydantic import ConfigDict

from runner.history.versions import Version
from runner.present.formats import cut
from runner.stats.change_point import Change, Trend

# Characters of a setting in a label.
LONGEST = 60


class State(str, Enum):
    """What a series of nights shows; the worst first."""

    WORSE = "WORSE"
    DECLINING = "DECLINING"
    CHECK = "CHECK"
    RECOVERED = "RECOVERED"
    NO_DROP = "NO DROP"
    TOO_FEW = "TOO FEW NIGHTS"


WORST_FIRST = tuple(State)


class Kind(str, Enum):
    """What a series is about."""

    ACCURACY = "accuracy"
    SHIFT = "shift of log-probabilities"
    DEGENERATE = "degenerate answers"
    THROUGHPUT = "throughput"
    START = "engine start"


@dataclass(frozen=True)
class Night:
    """A run of a series; `number` counts from 1, `run` is what other commands are given for it.

    `value` is None if the run has none, or one that isn't `counted`: the run did not complete, or
    stopped before all its questions were asked.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="strings")

    number: int
    when: str
    run: str
    local: bool
    verdict: str
    value: float | None
    counted: bool
    n: int | None
    interval: tuple[float, float] | None
    tolerated: tuple[float | None, float | None] | None
    changed: tuple[Version, ...]


@dataclass(frozen=True)
class Flips:
    """The answers of two nights to the same questions.

    Of `pairs` of all tasks, `changed` answers differ; `worse` and `better` are numbers of scores of
    the series. `p` is the
    one-sided p value of a drop, `p_adjusted` allows for the choice of the pair among all nights.
    """

    pairs: int
    changed: int
    worse: int
    better: int
    p: float
    p_adjusted: float


@dataclass(frozen=True)
class Series:
    """The nights of one metric under the same settings, and what they show.

    `settings` are those that tell the series from others. `good` and `bad` are the numbers of the
    last good night and the first bad one, also of a change that is only suspected. `between` is the
    95 % range of the first bad night. `limits` is the 99 % range of a further night like those
    before the change. `same` counts the equal values at the end of the nights before it.
    """

    model: str
    task: str
    metric: str
    kind: Kind
    higher_is_better: bool
    settings: dict[str, str]
    nights: tuple[Night, ...]
    state: State
    headline: str
    findings: tuple[str, ...]
    good: int | None
    bad: int | None
    between: tuple[int, int] | None
    before: float | None
    after: float | None
    p: float | None
    limits: tuple[float, float] | None
    changes: tuple[Change, ...]
    trend: Trend | None
    flips: Flips | None
    commands: tuple[str, ...]

    @property
    def label(self) -> str:
        """Return what distinguishes the series from others of the metric."""
        return " ".join(f"{name}={cut(value, LONGEST)}" for name, value in self.settings.items())

    @property
    def values(self) -> list[float]:
        """Return the values of the nights that count."""
        return [each.value for each in self.nights if each.counted and each.value is not None]

    @property
    def failing(self) -> int:
        """Return how many of the latest nights, without a gap, have no result."""
        latest = reversed(self.nights)
        return len(list(takewhile(lambda each: not each.counted and each.value is None, latest)))

    @property
    def last(self) -> Night | None:
        """Return the latest night with a value that counts."""
        return next((each for each in reversed(self.nights) if each.counted), None)


@dataclass(frozen=True)
class History:
    """All series, the worst first. `level` is the probability of a false change in one series."""

    source: str
    runs: int
    first: str
    latest: str
    level: float
    series: tuple[Series, ...]
    unreadable: tuple[str, ...]

    def count(self, *states: State) -> int:
        """Return the number of series in one of the states."""
        return sum(each.state in states for each in self.series)

    def accuracy(self, *states: State) -> list[Series]:
        """Return the series of accuracy in one of the states."""
        return [each for each in self.series if each.kind is Kind.ACCURACY and each.state in states]
