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
from runner.language import N_, gettext
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
# Percentiles by the name of their limit, and how a value of each is called.
RANKS = {"median": 50, "p99": 99, "worst": 100}
NAMED = {"median": N_("median {value}"), "p99": N_("p99 {value}"), "worst": N_("worst {value}")}


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
        reason = gettext(
            "answers are sampled at random, so their texts differ by chance; numerics needs greedy "
            "answers (task.gen_kwargs.do_sample=false)"
        )
    elif lonely:
        status, reason = (
            Status.INCONCLUSIVE,
            gettext("samples differ from the reference run: {differences}", differences=lonely),
        )
    elif len(pairs) != task.evaluated:
        status = Status.INCONCLUSIVE
        reason = gettext(
            "{count} samples were saved, but {evaluated} were evaluated",
            count=len(pairs),
            evaluated=task.evaluated,
        )
    elif len(found.values) < ENOUGH:
        status = Status.INCONCLUSIVE
        reason = gettext(
            "too few log-probabilities: {count}, at least {least} needed",
            count=len(found.values),
            least=ENOUGH,
        )
    else:
        value = found.percentile(99)
        status, reason = _against(found, limits)
    if found.left_out:
        # A different tokenizer or image processor is not a numerical fault, but no pass either.
        status = Status.INCONCLUSIVE if status is Status.PASSED else status
        reason = gettext("; ").join([_retokenized(found), reason])
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
        evidence=gettext("; ").join([*_moved(found), _parted(found, limits.near_tie)]),
    )


def describe(limits: NumericsConfig) -> str:
    """Describe the rule in one line."""
    values: dict[str, float | None] = {name: getattr(limits, name) for name in RANKS}
    said = [_named(name, f"{limit:g}") for name, limit in values.items() if limit is not None]
    if limits.differing is not None:
        share = percent(limits.differing)
        said.append(gettext("{share} of answers that differ without a near-tie", share=share))
    return gettext(
        "numerics: log-probability shift from the reference run within {limits}",
        limits=gettext(", ").join(said),
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
    for name, rank in RANKS.items():
        limit: float | None = getattr(limits, name)
        value = found.percentile(rank)
        if limit is not None and not value <= limit:
            shift = _named(name, f"{value:.2g}")
            broken.append(gettext("{shift} exceeds {limit:g}", shift=shift, limit=limit))
    reasons = []
    if broken:
        shifts_said = gettext(", ").join(broken)
        reasons = [gettext("log-probability shift too large: {shifts}", shifts=shifts_said)]
    # Long answers have so many equal tokens before the first different one that the percentiles
    # don't show it.
    share = found.differing / found.answers
    if limits.differing is not None and share > limits.differing and found.differing > 1:
        reasons.append(
            gettext(
                "{count} of {answers} answers differ without a near-tie ({share}, limit {limit})",
                count=found.differing,
                answers=found.answers,
                share=percent(share),
                limit=percent(limits.differing),
            )
        )
    unknown = found.summed and math.isfinite(found.percentile(100))
    if broken and unknown and len(reasons) == 1:
        return Status.INCONCLUSIVE, gettext(
            "{problem}, but these are sums over the tokens of a choice: neither run recorded the "
            "number of tokens; repeat one of them with this version",
            problem=reasons[0],
        )
    if reasons:
        return Status.FAILED, gettext("; ").join(reasons)
    return Status.PASSED, gettext("log-probability shift within the limits")


def _named(percentile: str, value: str) -> str:
    return gettext(NAMED[percentile], value=value)


def _retokenized(found: Shifts) -> str:
    """State how many pairs are excluded and why."""
    return gettext(
        "{count} of {prompts} prompts have a different number of tokens than in the reference run "
        "(different tokenizer or image preprocessing); their log-probabilities are excluded",
        count=found.left_out,
        prompts=found.left_out + found.answers,
    )


def _moved(found: Shifts) -> list[str]:
    if not len(found.values):
        return []
    values = (_named(name, f"{found.percentile(rank):.2g}") for name, rank in RANKS.items())
    moved = gettext(", ").join(values)
    return [gettext("|Δ log p|: {shifts} (n = {n:,})", shifts=moved, n=len(found.values))]


def _parted(found: Shifts, near_tie: float) -> str:
    return gettext(
        "{parted} of {answers} answers differ, {near_ties} of them at a near-tie (lead below "
        "{lead:g} nats)",
        parted=found.parted,
        answers=found.answers,
        near_ties=found.near_ties,
        lead=near_tie,
    )


def _answers(pairing: Pairing) -> Iterable[tuple[Sample, Sample]]:
    """Each question once, regardless of filters."""
    seen = set()
    for first, second in pairing.pairs:
        question = (second.task, second.doc_id)
        if question not in seen:
            seen.add(question)
            yield first, second
