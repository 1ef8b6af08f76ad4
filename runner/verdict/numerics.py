"""`numerics`: the log-probabilities beneath the answers, against a reference run's.

Accuracy does not see weights of 4 bits or a dropped bias; log-probabilities do (docs/canary.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.outcome import TaskOutcome
from runner.pairing import Pairing
from runner.samples import Sample
from runner.verdict.paired import unpaired
from runner.verdict.result import MetricVerdict, Status
from runner.verdict_config import NumericsConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The name that stands where others have a metric.
METRIC = "logprob_shift"
# Of fewer values the 99th percentile is the largest, and no percentile.
ENOUGH = 100


@dataclass(frozen=True)
class Shifts:
    """How far log-probabilities moved, in nats, each 0 or more.

    `parted` are answers that went different ways, `near_ties` those of them where the reference
    run's choice led by little.
    """

    values: NDArray[np.float64]
    answers: int
    parted: int
    near_ties: int

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
    found = shifts(_answers(pairing), limits.near_tie)
    value = None
    if lonely:
        status, reason = (
            Status.INCONCLUSIVE,
            f"not the samples of the reference run: {lonely}",
        )
    elif len(found.values) < ENOUGH:
        status = Status.INCONCLUSIVE
        reason = f"{len(found.values)} log-probabilities are too few: at least {ENOUGH} are needed"
    else:
        value = found.percentile(99)
        status, reason = _against(found, limits)
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
        evidence=f"{_said(found)}{found.parted} of {found.answers} answers part, "
        f"{found.near_ties} of them at a near-tie (led by less than {limits.near_tie:g} nats)",
    )


def shifts(pairs: Iterable[tuple[Sample, Sample]], near_tie: float) -> Shifts:
    """Scored choices, each; else generated tokens up to where the answers part.

    There the two tokens have no log-probability in common. But the first run's led by its margin
    and the second run's by its own, so the distance of the two tokens moved by the sum of both, and
    one of them by half of it at least: that is what the place counts as.
    """
    import numpy as np

    moved: list[NDArray[np.float64]] = []
    answers = parted = near_ties = 0
    for first, second in pairs:
        answers += 1
        if first.choice_logprobs or second.choice_logprobs:
            moved.append(_apart(first.choice_logprobs, second.choice_logprobs))
            continue
        common = _common(first.token_ids, second.token_ids)
        moved.append(_apart(first.logprobs[:common], second.logprobs[:common]))
        if common < min(len(first.token_ids), len(second.token_ids)):
            parted += 1
            lead, other = _margin(first, common), _margin(second, common)
            near_ties += lead < near_tie
            moved.append(np.array([(lead + other) / 2]))
    return Shifts(np.concatenate([np.empty(0), *moved]), answers, parted, near_ties)


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


def _apart(first: Sequence[float], second: Sequence[float]) -> NDArray[np.float64]:
    """What one side alone has is as far apart as can be."""
    import numpy as np

    length = min(len(first), len(second))
    one, other = (np.asarray(each[:length], dtype=np.float64) for each in (first, second))
    with np.errstate(invalid="ignore"):  # of two infinities
        moved = np.where(one == other, 0.0, np.abs(one - other))
    return np.append(moved, [math.inf] * abs(len(first) - len(second)))


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    import numpy as np

    length = min(len(first), len(second))
    differs = np.flatnonzero(np.asarray(first[:length]) != np.asarray(second[:length]))
    return int(differs[0]) if len(differs) else length


def _margin(sample: Sample, place: int) -> float:
    """A sampled token may trail the best one; a missing margin is none."""
    return max(sample.margins[place], 0.0) if place < len(sample.margins) else 0.0
