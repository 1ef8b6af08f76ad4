"""Log-probabilities beneath the answers: how far two engines are apart where accuracy is blind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.evidence import shifts
from runner.evidence.samples import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Up to so many token positions each has a row of its own; beyond, a row doubles in width.
SINGLE = 8


@dataclass(frozen=True)
class Spread:
    """Absolute differences of natural log-probabilities."""

    n: int
    median: float
    p99: float
    worst: float


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
    """Of generated tokens up to where the answers part, by position too, and of scored choices.

    `samples` are pairs of which tokens were compared; `parted` of them part somewhere, half of
    these at token `median_parting` or before.
    """

    tokens: Spread | None
    choices: Spread | None
    positions: tuple[Position, ...]
    samples: int
    parted: int
    median_parting: float | None


def numerics(pairs: Sequence[tuple[Sample, Sample]]) -> Numerics:
    """Over pairs of samples that were asked the same, each once.

    Token numbers are of pairs of one answer each, to the same number of prompt tokens: what an
    image became is no question of the arithmetic.
    """
    import numpy as np

    comparable = [
        (first, second)
        for first, second in pairs
        if len(first.finish_reasons) == len(second.finish_reasons) == 1
        and first.prompt_tokens == second.prompt_tokens
        and not first.choice_logprobs
    ]
    tokens = [shifts.of_tokens(first, second) for first, second in comparable]
    partings = [
        place
        for first, second in comparable
        if (place := shifts.parting(first.token_ids, second.token_ids)) is not None
    ]
    differences = _joined(tokens)
    position = _joined([np.arange(len(each), dtype=np.int32) for each in tokens])
    choices = _joined([shifts.of_choices(first, second) for first, second in pairs])
    return Numerics(
        tokens=_spread(differences),
        choices=_spread(choices),
        positions=tuple(_by_position(differences, position)),
        samples=len(comparable),
        parted=len(partings),
        median_parting=float(np.median(partings)) if partings else None,
    )


def _joined(parts: list[Any]) -> NDArray[Any]:
    import numpy as np

    return np.concatenate(parts) if parts else np.empty(0)


def _spread(values: NDArray[Any]) -> Spread | None:
    import numpy as np

    known = values[np.isfinite(values)]
    if not known.size:
        return None
    median, p99 = np.percentile(known, (50, 99))
    return Spread(int(known.size), float(median), float(p99), float(known.max()))


def _by_position(values: NDArray[Any], position: NDArray[Any]) -> Iterable[Position]:
    end = int(position.max()) + 1 if position.size else 0
    start, width = 0, 1
    while start < end:
        inside = (position >= start) & (position < start + width)
        if (spread := _spread(values[inside])) is not None:
            yield Position(start, min(start + width, end) - 1, spread)
        start += width
        width = 1 if start < SINGLE else start
