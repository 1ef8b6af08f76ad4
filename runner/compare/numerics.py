"""Log-probability differences between two runs, which reveal faults that accuracy misses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
# Values of tokens that are counted together.
BLOCK = 1 << 17


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
            self._choices.add([shifts.of_choices(first, second)])
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
            tokens=self._tokens.spread(),
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

    def add(self, moved: Sequence[NDArray[np.float64]]) -> None:
        """Add the values of some pairs, each of which has any."""
        import numpy as np

        if moved:
            values = np.concatenate(moved)
            self._pairs += len(moved)
            self._values += len(values)
            self._percentiles.add(values)

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
        self._every = _Differences()
        self._inside: list[tuple[int, int, _Differences]] = []
        self._ranges = _ranges()
        self._end = self._longest = 0
        self._waiting: list[NDArray[np.float64]] = []
        self._size = 0

    def add(self, moved: NDArray[np.float64]) -> None:
        self._waiting.append(moved)
        self._size += len(moved)
        if self._size >= BLOCK:
            self._add_waiting()

    def again(self) -> None:
        self._add_waiting()
        self._every.again()
        for *_, inside in self._inside:
            inside.again()

    def spread(self) -> Spread | None:
        self._add_waiting()
        return self._every.spread()

    def positions(self) -> Iterator[Position]:
        self._add_waiting()
        for start, end, inside in self._inside:
            if (spread := inside.spread()) is not None:
                yield Position(start, min(end, self._longest) - 1, spread)

    def _add_waiting(self) -> None:
        moved = [each for each in self._waiting if each.size]
        self._waiting, self._size = [], 0
        self._longest = max(self._longest, *map(len, moved), 0)
        while self._end < self._longest:
            start, self._end = next(self._ranges)
            self._inside.append((start, self._end, _Differences()))
        self._every.add(moved)
        for start, end, inside in self._inside:
            inside.add([each[start:end] for each in moved if len(each) > start])


def _ranges() -> Iterator[tuple[int, int]]:
    """All ranges of positions: their starts, and their ends, which are not included."""
    start, width = 0, 1
    while True:
        yield start, start + width
        start += width
        width = 1 if start < SINGLE else start
