"""`numerics`: the log-probabilities beneath the answers, against a reference run's.

Accuracy does not see weights of 4 bits or a dropped bias; log-probabilities do (docs/canary.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.config.verdict import NumericsConfig
from runner.evidence import shifts
from runner.evidence.pairing import Pairing
from runner.evidence.samples import Sample
from runner.outcome import TaskOutcome
from runner.status import Status
from runner.verdict.paired import unpaired
from runner.verdict.result import MetricVerdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The name that stands where others have a metric.
METRIC = "logprob_shift"
# Of fewer values the 99th percentile is the largest, and no percentile.
ENOUGH = 100


@dataclass(frozen=True)
class Shifts:
    """How far log-probabilities moved (runner/evidence/shifts.py), in nats, each 0 or more.

    They come from `answers` pairs. `parted` of these differ (another token, or another likeliest
    choice), `near_ties` of the parted where neither run's choice led by much. `left_out` are pairs
    whose prompts became different numbers of tokens.
    """

    values: NDArray[np.float64]
    answers: int
    parted: int
    near_ties: int
    left_out: int

    def percentile(self, percent: float) -> float:
        """NaN where a value is, or is infinite and next to the percentile."""
        import numpy as np

        with np.errstate(invalid="ignore"):
            return float(np.percentile(self.values, percent))


def judge(
    task: TaskOutcome, pairing: Pairing, limited: bool, limits: NumericsConfig
) -> MetricVerdict:
    """One verdict for the task, named `logprob_shift`; its value is the 99th percentile."""
    lonely = unpaired(pairing, limited)
    pairs = list(_answers(pairing))
    found = shifts_of(pairs, limits.near_tie)
    value = None
    if lonely:
        status, reason = (
            Status.INCONCLUSIVE,
            f"not the samples of the reference run: {lonely}",
        )
    elif len(pairs) != task.evaluated:
        status = Status.INCONCLUSIVE
        reason = f"{len(pairs)} samples are kept of {task.evaluated} that were evaluated"
    elif len(found.values) < ENOUGH:
        status = Status.INCONCLUSIVE
        reason = f"{len(found.values)} log-probabilities are too few: at least {ENOUGH} are needed"
    else:
        value = found.percentile(99)
        status, reason = _against(found, limits)
    if found.left_out:
        # Two tokenizers or image processors are no question of arithmetic, and no pass either.
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
        evidence=f"{_said(found)}{found.parted} of {found.answers} answers differ, "
        f"{found.near_ties} of them at a near-tie (led by less than {limits.near_tie:g} nats)",
    )


def shifts_of(pairs: Sequence[tuple[Sample, Sample]], near_tie: float) -> Shifts:
    """Scored choices, each; else generated tokens up to where the answers part."""
    import numpy as np

    compared = [pair for pair in pairs if shifts.comparable(*pair)]
    parted = [pair for pair in compared if shifts.parts(*pair)]
    return Shifts(
        values=np.concatenate([np.empty(0), *(shifts.of_answers(*pair) for pair in compared)]),
        answers=len(compared),
        parted=len(parted),
        near_ties=sum(shifts.tied(*pair, near_tie) for pair in parted),
        left_out=len(pairs) - len(compared),
    )


def _against(found: Shifts, limits: NumericsConfig) -> tuple[Status, str]:
    """Every limit that is set; NaN is above all."""
    broken = []
    for name, percent in (("median", 50), ("p99", 99), ("worst", 100)):
        limit: float | None = getattr(limits, name)
        value = found.percentile(percent)
        if limit is not None and not value <= limit:
            broken.append(f"{name} {value:.2g} above {limit:g}")
    if broken:
        return Status.FAILED, f"log-probabilities moved: {', '.join(broken)}"
    return Status.PASSED, "log-probabilities moved within the limits"


def _retokenized(found: Shifts) -> str:
    """Why pairs are left out, and how many."""
    return (
        f"{found.left_out} of {found.left_out + found.answers} prompts became another number of "
        "tokens than in the reference run (another tokenizer or image preprocessing), and their "
        "log-probabilities are left out"
    )


def _said(found: Shifts) -> str:
    if not len(found.values):
        return ""
    names = (("median", 50), ("p99", 99), ("worst", 100))
    moved = ", ".join(f"{name} {found.percentile(percent):.2g}" for name, percent in names)
    return f"|Δ log p|: {moved} of {len(found.values):,}; "


def _answers(pairing: Pairing) -> Iterable[tuple[Sample, Sample]]:
    """Each question once, whatever its filters."""
    seen = set()
    for first, second in pairing.pairs:
        question = (second.task, second.doc_id)
        if question not in seen:
            seen.add(question)
            yield first, second
