"""`numerics`: compares the log-probabilities of answers with a reference run.

They reveal 4-bit weights, which accuracy does not (docs/canary.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.config.verdict import NumericsConfig
from runner.evidence import shifts
from runner.evidence.pairing import Pairing
from runner.evidence.samples import Sample
from runner.outcome import TaskOutcome
from runner.percent import percent
from runner.status import Status
from runner.verdict import boundary
from runner.verdict.paired import unpaired
from runner.verdict.result import MetricVerdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Stands in for the name of a metric.
METRIC = "logprob_shift"
# With fewer values, the 99th percentile is just the maximum.
ENOUGH = 100


@dataclass(frozen=True)
class Shifts:
    """Absolute log-probability shifts in nats (runner/evidence/shifts.py).

    They come from `answers` pairs. `parted` of these differ (another token or another most likely
    choice), `near_ties` of them at a small lead in both runs. `left_out` are pairs whose prompts
    have different numbers of tokens. In `summed` pairs, the number of tokens of the choices is
    unknown, so their values are shifts of sums.
    """

    values: NDArray[np.float64]
    answers: int
    parted: int
    near_ties: int
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


def judge(
    task: TaskOutcome, pairing: Pairing, limited: bool, limits: NumericsConfig
) -> MetricVerdict:
    """Return the verdict `logprob_shift` of the task; its value is the 99th percentile."""
    lonely = unpaired(pairing, limited)
    pairs = list(_answers(pairing))
    found = shifts_of(pairs, limits.near_tie)
    value = None
    if task.drawn:
        status = Status.INCONCLUSIVE
        reason = (
            "answers are sampled at random, so their texts differ by chance; numerics needs greedy "
            "answers (task.gen_kwargs.do_sample=false)"
        )
    elif lonely:
        status, reason = (
            Status.INCONCLUSIVE,
            f"samples differ from the reference run: {lonely}",
        )
    elif len(pairs) != task.evaluated:
        status = Status.INCONCLUSIVE
        reason = f"{len(pairs)} samples were saved, but {task.evaluated} were evaluated"
    elif len(found.values) < ENOUGH:
        status = Status.INCONCLUSIVE
        reason = f"too few log-probabilities: {len(found.values)}, at least {ENOUGH} needed"
    else:
        value = found.percentile(99)
        status, reason = _against(found, limits)
    if found.left_out:
        # A different tokenizer or image processor is not a numerical fault, but no pass either.
        status = Status.INCONCLUSIVE if status is Status.PASSED else status
        reason = f"{_retokenized(found)}; {reason}"
    return MetricVerdict(
        task=task.task,
        metric=METRIC,
        filter="none",
        status=status,
        value=value,
        stderr=None,
        interval=None,
        n=len(found.values),
        baseline=None,
        difference=None,
        reason=reason,
        rule="numerics",
        # A limit per token is none for a sum.
        tolerated=None if found.summed else boundary.of_limit(limits.p99),
        evidence=f"{_said(found)}{found.parted} of {found.answers} answers differ, "
        f"{found.near_ties} of them at a near-tie (lead below {limits.near_tie:g} nats)",
    )


def shifts_of(pairs: Sequence[tuple[Sample, Sample]], near_tie: float) -> Shifts:
    """Compute shifts per token: of choices, else of tokens up to the first difference."""
    import numpy as np

    compared = [pair for pair in pairs if shifts.comparable(*pair)]
    parted = [pair for pair in compared if shifts.parts(*pair)]
    return Shifts(
        values=np.concatenate([np.empty(0), *(shifts.of_answers(*pair) for pair in compared)]),
        answers=len(compared),
        parted=len(parted),
        near_ties=sum(shifts.tied(*pair, near_tie) for pair in parted),
        left_out=len(pairs) - len(compared),
        summed=sum(shifts.summed(*pair) for pair in compared),
    )


def _against(found: Shifts, limits: NumericsConfig) -> tuple[Status, str]:
    """Check every limit that is set; NaN exceeds all.

    The shift of a sum is at least that per token, so it can pass, but is no reason to fail unless
    it is infinite.
    """
    broken = []
    for name, rank in (("median", 50), ("p99", 99), ("worst", 100)):
        limit: float | None = getattr(limits, name)
        value = found.percentile(rank)
        if limit is not None and not value <= limit:
            broken.append(f"{name} {value:.2g} exceeds {limit:g}")
    reasons = [f"log-probability shift too large: {', '.join(broken)}"] if broken else []
    # Long answers have so many equal tokens before the first different one that the percentiles
    # don't show it.
    share = found.differing / found.answers
    if limits.differing is not None and share > limits.differing and found.differing > 1:
        reasons.append(
            f"{found.differing} of {found.answers} answers differ without a near-tie "
            f"({percent(share)}, limit {percent(limits.differing)})"
        )
    unknown = found.summed and math.isfinite(found.percentile(100))
    if broken and unknown and len(reasons) == 1:
        return Status.INCONCLUSIVE, (
            f"{reasons[0]}, but these are sums over the tokens of a choice: the reference run did "
            "not record the number of tokens; repeat it with this version"
        )
    if reasons:
        return Status.FAILED, "; ".join(reasons)
    return Status.PASSED, "log-probability shift within the limits"


def _retokenized(found: Shifts) -> str:
    """State how many pairs are excluded and why."""
    return (
        f"{found.left_out} of {found.left_out + found.answers} prompts have a different number "
        "of tokens than in the reference run (different tokenizer or image preprocessing); their "
        "log-probabilities are excluded"
    )


def _said(found: Shifts) -> str:
    if not len(found.values):
        return ""
    names = (("median", 50), ("p99", 99), ("worst", 100))
    moved = ", ".join(f"{name} {found.percentile(percent):.2g}" for name, percent in names)
    return f"|Δ log p|: {moved} (n = {len(found.values):,}); "


def _answers(pairing: Pairing) -> Iterable[tuple[Sample, Sample]]:
    """Each question once, regardless of filters."""
    seen = set()
    for first, second in pairing.pairs:
        question = (second.task, second.doc_id)
        if question not in seen:
            seen.add(question)
            yield first, second
