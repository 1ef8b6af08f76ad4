"""The log-probability shifts that the limits of `numerics` judge, and what the report says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.evidence import shifts
from runner.evidence.samples import Sample
from runner.language import N_, gettext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Percentiles by the name of their limit, and how a value of each is called.
RANKS = {"median": 50, "p99": 99, "worst": 100}
NAMED = {"median": N_("median {value}"), "p99": N_("p99 {value}"), "worst": N_("worst {value}")}


@dataclass(frozen=True)
class Shifts:
    """Absolute log-probability shifts in nats (runner/evidence/shifts.py).

    They come from `answers` pairs. `parted` of these differ (another token or another most likely
    choice), `near_ties` of them at a small lead in both runs. `unknown` differ without a near-tie
    and without a value there, for example because one answer ended. `left_out` are pairs whose
    prompts have different numbers of tokens. In `summed` pairs, the number of tokens of the choices
    is unknown, so their values are shifts of sums.
    """

    values: NDArray[np.float64]
    answers: int
    parted: int
    near_ties: int
    unknown: int
    left_out: int
    summed: int

    @property
    def differing(self) -> int:
        """Return how many answers differ although neither run was near a tie."""
        return self.parted - self.near_ties

    def percentile(self, percent: float) -> float:
        """Return a percentile; NaN if a value is NaN, or infinite and next to the percentile."""
        import numpy as np

        with np.errstate(invalid="ignore"):
            return float(np.percentile(self.values, percent))


def shifts_of(pairs: Sequence[tuple[Sample, Sample]], near_tie: float) -> Shifts:
    """Compute shifts per token: of choices, else of tokens up to the first difference."""
    import numpy as np

    compared = [pair for pair in pairs if shifts.comparable(*pair)]
    parted = [pair for pair in compared if shifts.parts(*pair)]
    clear = [pair for pair in parted if not shifts.tied(*pair, near_tie)]
    return Shifts(
        values=np.concatenate([np.empty(0), *(shifts.of_answers(*pair) for pair in compared)]),
        answers=len(compared),
        parted=len(parted),
        near_ties=len(parted) - len(clear),
        unknown=sum(shifts.unknown_where_parted(*pair) for pair in clear),
        left_out=len(pairs) - len(compared),
        summed=sum(shifts.summed(*pair) for pair in compared),
    )


def named(percentile: str, value: str) -> str:
    """Return a percentile with its value, as in `p99 0.2`."""
    return gettext(NAMED[percentile], value=value)


def retokenized(found: Shifts) -> str:
    """Return how many pairs are excluded and why."""
    return gettext(
        "{count} of {prompts} prompts have a different number of tokens than in the reference run "
        "(different tokenizer or image preprocessing); their log-probabilities are excluded",
        count=found.left_out,
        prompts=found.left_out + found.answers,
    )


def moved(found: Shifts) -> list[str]:
    """Return the percentiles of all shifts; empty without any."""
    if not len(found.values):
        return []
    values = (named(name, f"{found.percentile(rank):.2g}") for name, rank in RANKS.items())
    shifts_said = gettext(", ").join(values)
    return [gettext("|Δ log p|: {shifts} (n = {n:,})", shifts=shifts_said, n=len(found.values))]


def parted(found: Shifts, near_tie: float) -> str:
    """Return how many answers differ."""
    return gettext(
        "{parted} of {answers} answers differ, {near_ties} of them at a near-tie (lead below "
        "{lead:g} nats)",
        parted=found.parted,
        answers=found.answers,
        near_ties=found.near_ties,
        lead=near_tie,
    )
