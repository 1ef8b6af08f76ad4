"""Log-probability differences between two runs, which reveal faults that accuracy misses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.evidence import shifts
from runner.evidence.samples import Sample

if TYPE_CHECKING:
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


def numerics(pairs: Sequence[tuple[Sample, Sample]]) -> Numerics:
    """Compute differences over pairs with equal prompts; tokens need one answer per sample."""
    import numpy as np

    comparable = [pair for pair in pairs if shifts.comparable(*pair)]
    scored = [(one, other) for one, other in comparable if one.choice_logprobs]
    single = [
        (one, other)
        for one, other in comparable
        if len(one.finish_reasons) == len(other.finish_reasons) == 1 and not one.choice_logprobs
    ]
    tokens = [shifts.of_tokens(*pair) for pair in single]
    partings = [
        place
        for one, other in single
        if (place := shifts.parting(one.token_ids, other.token_ids)) is not None
    ]
    return Numerics(
        pairs=len(pairs),
        other_tokens=len(pairs) - len(comparable),
        answers=len(single),
        tokens=_spread(tokens),
        choices=_spread([shifts.of_choices(*pair) for pair in scored]),
        summed=any(shifts.summed(*pair) for pair in scored),
        positions=tuple(_by_position(tokens)),
        parted=len(partings),
        median_parting=float(np.median(partings)) if partings else None,
    )


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    import numpy as np

    return np.concatenate(parts) if parts else np.empty(0)


def _spread(parts: Sequence[NDArray[Any]]) -> Spread | None:
    """The spread of the values of all pairs; None where there are none."""
    import numpy as np

    values = _joined(parts)
    if not values.size:
        return None
    known = values[np.isfinite(values)]
    median, p99, worst = np.percentile(known, (50, 99, 100)) if known.size else [math.nan] * 3
    return Spread(
        n=int(known.size),
        median=float(median),
        p99=float(p99),
        worst=float(worst),
        pairs=sum(bool(each.size) for each in parts),
        lost=int(values.size - known.size),
    )


def _by_position(tokens: Sequence[NDArray[Any]]) -> Iterable[Position]:
    end = max(map(len, tokens), default=0)
    start, width = 0, 1
    while start < end:
        inside = [each[start : start + width] for each in tokens]
        if (spread := _spread(inside)) is not None:
            yield Position(start, min(start + width, end) - 1, spread)
        start += width
        width = 1 if start < SINGLE else start
