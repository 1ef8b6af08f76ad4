"""Log-probability differences between two runs, which reveal faults that accuracy misses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.evidence import shifts
from runner.evidence.samples import Sample
from runner.stats.percentiles import Percentiles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The first positions have one row each; later rows double in width.
SINGLE = 8


@dataclass(frozen=True)
class Spread:
    """Absolute differences of natural log-probabilities: `n` finite ones, out of `pairs` pairs of
    samples; without any, median and the others are NaN. `lost` more are NaN, or infinite because
    one side alone has a value."""

    n: int
    median: float
    p99: float
    worst: float
    pairs: int
    lost: int


@dataclass(frozen=True)
class Position:
    """The spread at token positions `start` to `end`, counted from 0 and both included."""

    start: int
    end: int
    spread: Spread

    @property
    def name(self) -> str:
        return f"{self.start}" if self.start == self.end else f"{self.start}–{self.end}"


@dataclass(frozen=True)
class Numerics:
    """Differences of generated tokens up to the divergence, by position, and of scored choices.

    Of `pairs` pairs of samples, `other_tokens` are left out because their prompts have different
    numbers of tokens. `answers` of the others have one generated
    answer each; `parted` of these part somewhere, half of them at token `median_parting` or before.
    Differences of choices are per token, unless the number of tokens is unknown (`summed`).
    """

    pairs: int
    other_tokens: int
    answers: int
    tokens: Spread | None
    choices: Spread | None
    summed: bool
    positions: tuple[Position, ...]
    parted: int
    median_parting: float | None

    @property
    def compared(self) -> int:
        """Return the number of compared pairs."""
        return sum(each.pairs for each in (self.tokens, self.choices) if each is not None)


class Measured:
    """Computes `Numerics` over pairs with equal prompts; tokens need one answer per sample.

    Long answers have too many values to keep: `add` all pairs, call `again`, and add all of them
    once more.
    """

    def __init__(self) -> None:
        self._counts = _Counts()
        self._tokens, self._choices = _ByPosition(), _Differences()

    def add(self, first: Sample, second: Sample) -> None:
        counts = self._counts
        counts.pairs += 1
        if not shifts.comparable(first, second):
            counts.other_tokens += 1
        elif first.choice_logprobs:
            counts.summed = counts.summed or shifts.summed(first, second)
            self._choices.add(shifts.of_choices(first, second))
        elif len(first.finish_reasons) == len(second.finish_reasons) == 1:
            counts.answers += 1
            place = shifts.parting(first.token_ids, second.token_ids)
            counts.partings += [] if place is None else [place]
            self._tokens.add(shifts.of_tokens(first, second))

    def again(self) -> None:
        """Begin the second pass."""
        self._counts = _Counts()
        self._tokens.again()
        self._choices.again()

    def numerics(self) -> Numerics:
        """Return the result after both passes."""
        import numpy as np

        counts = self._counts
        return Numerics(
            pairs=counts.pairs,
            other_tokens=counts.other_tokens,
            answers=counts.answers,
            tokens=self._tokens.every.spread(),
            choices=self._choices.spread(),
            summed=counts.summed,
            positions=tuple(self._tokens.positions()),
            parted=len(counts.partings),
            median_parting=float(np.median(counts.partings)) if counts.partings else None,
        )


@dataclass
class _Counts:
    """Counts of pairs as in `Numerics`, and the positions at which answers part."""

    pairs: int = 0
    other_tokens: int = 0
    answers: int = 0
    summed: bool = False
    partings: list[int] = field(default_factory=list)


class _Differences:
    """The spread of the values of many pairs, which are added twice."""

    def __init__(self) -> None:
        self._percentiles = Percentiles((50, 99, 100))
        self._pairs = self._values = 0

    def again(self) -> None:
        self._percentiles.again()
        self._pairs = self._values = 0

    def add(self, moved: NDArray[np.float64]) -> None:
        self._pairs += bool(moved.size)
        self._values += moved.size
        self._percentiles.add(moved)

    def spread(self) -> Spread | None:
        """Return the spread; None without values."""
        if not self._values:
            return None
        median, p99, worst = self._percentiles.found()
        n = self._percentiles.n
        return Spread(n, median, p99, worst, self._pairs, lost=self._values - n)


class _ByPosition:
    """The spread of the values of all tokens, and those of ranges of positions."""

    def __init__(self) -> None:
        self.every = _Differences()
        self._ranges: list[tuple[int, int, _Differences]] = []
        self._next = _ranges()
        self._end = self._longest = 0

    def again(self) -> None:
        self.every.again()
        for _, _, inside in self._ranges:
            inside.again()

    def add(self, moved: NDArray[np.float64]) -> None:
        self.every.add(moved)
        self._longest = max(self._longest, len(moved))
        while self._end < self._longest:
            start, self._end = next(self._next)
            self._ranges.append((start, self._end, _Differences()))
        for start, end, inside in self._ranges:
            if start >= len(moved):
                break
            inside.add(moved[start:end])

    def positions(self) -> Iterator[Position]:
        for start, end, inside in self._ranges:
            if (spread := inside.spread()) is not None:
                yield Position(start, min(end, self._longest) - 1, spread)


def _ranges() -> Iterator[tuple[int, int]]:
    """All ranges of positions: their starts, and their ends, which are not included."""
    start, width = 0, 1
    while True:
        yield start, start + width
        start += width
        width = 1 if start < SINGLE else start
