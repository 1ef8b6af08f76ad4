"""`numerics`: compares the log-probabilities of answers with a reference run.

They reveal 4-bit weights, which accuracy does not (docs/canary.md). As for `replay`, what is too
much comes from runs on correct stacks. Fixed limits count only if the user sets them, because those
that suit a small model fail correct stacks of a large one (docs/verdict.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from runner.config.verdict import FEWEST_QUESTIONS, NumericsConfig, VerdictConfig
from runner.evidence.pairing import Pairing
from runner.evidence.samples import Sample
from runner.language import N_, gettext
from runner.look import Look
from runner.outcome import TaskOutcome
from runner.percent import percent
from runner.stats.excess import Excess
from runner.status import Status
from runner.verdict import boundary, replay
from runner.verdict.numerics_measured import (
    RANKS,
    Shifts,
    moved,
    named,
    parted,
    retokenized,
    shifts_of,
)
from runner.verdict.paired import unpaired
from runner.verdict.replay_measured import Measured, measure
from runner.verdict.result import MetricVerdict
from runner.verdict.rule import Against, Noise

# Stands in for the name of a metric.
METRIC = "logprob_shift"
# With fewer values, the 99th percentile is just the maximum.
ENOUGH = 100
WORST_FIRST = (Status.FAILED, Status.INCONCLUSIVE, Status.PASSED)
GET_NOISE = N_(
    "run the same questions on correct stacks, and list these runs in verdict.numerics.noise, or "
    "store them with the reference run (python -m runner.promote RUN --noise RUN2 RUN3)"
)


def judge(
    task: TaskOutcome,
    pairing: Pairing,
    limited: bool,
    config: VerdictConfig,
    against: Against | None,
) -> MetricVerdict:
    """Return the verdict `logprob_shift` of the task; its value is the 99th percentile."""
    limits = config.numerics
    lonely = unpaired(pairing, limited)
    pairs = list(_answers(pairing))
    found = shifts_of(pairs, limits.near_tie)
    noise = against.noise if against is not None else ()
    measured = _measure(pairs, noise, limits.near_tie)
    value = excess_found = None
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
        status, reason, excess_found = _judged(found, measured, noise, limits, task.look)
    if found.left_out:
        # A different tokenizer or image processor is not a numerical fault, but no pass either.
        status = Status.INCONCLUSIVE if status is Status.PASSED else status
        reason = gettext("; ").join([retokenized(found), reason])
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
        test=replay.test_of(excess_found),
        p=excess_found.p if excess_found is not None else None,
        # A limit per token is none for a sum.
        tolerated=None if found.summed else boundary.of_limit(limits.p99),
        evidence=gettext("; ").join(
            [*moved(found), parted(found, limits.near_tie), *_noise_said(measured)]
        ),
    )


def describe(limits: NumericsConfig, noise: int) -> str:
    """Describe the rule in one line; `noise` is the number of noise runs."""
    values: dict[str, float | None] = {name: getattr(limits, name) for name in RANKS}
    said = [named(name, f"{limit:g}") for name, limit in values.items() if limit is not None]
    parts = [] if said and not noise else [replay.describe_limit(limits.factor, noise)]
    if limits.differing is not None:
        share = percent(limits.differing)
        said.append(gettext("{share} of answers that differ without a near-tie", share=share))
    if said:
        parts.append(gettext("within {limits}", limits=gettext(", ").join(said)))
    return gettext(
        "numerics: log-probability shift from the reference run; {limits}",
        limits=gettext("; ").join(parts),
    )


def _measure(
    pairs: Sequence[tuple[Sample, Sample]], noise: Sequence[Noise], near_tie: float
) -> Measured:
    reference, own = [first for first, _ in pairs], [second for _, second in pairs]
    return measure(reference, own, noise, near_tie, ordinary=True)


def _judged(
    found: Shifts, measured: Measured, noise: Sequence[Noise], limits: NumericsConfig, look: Look
) -> tuple[Status, str, Excess | None]:
    """Judge by the noise and by the limits that are set; both must hold.

    Without noise, limits of the shifts are enough: they are what the user knows of correct stacks.
    The share of differing answers alone says too little to pass.
    """
    import numpy as np

    if not np.isfinite(found.values).all():
        reason = gettext("a log-probability is infinite, not a number, or missing in one run")
        return Status.FAILED, reason, None
    results: list[tuple[Status, str]] = []
    excess_found = None
    if noise or all(getattr(limits, name) is None for name in RANKS):
        status, reason, excess_found = _by_noise(found, measured, noise, limits.factor, look)
        results.append((status, reason))
    if any(getattr(limits, name) is not None for name in (*RANKS, "differing")):
        results.append(_by_limits(found, limits))
        if results[-1][0] is Status.FAILED:  # its p value would be that of another test
            excess_found = None
    status = min((status for status, _ in results), key=WORST_FIRST.index)
    # A single such answer may be an accident.
    if status is Status.PASSED and found.unknown > 1:
        status = Status.INCONCLUSIVE
        reason = gettext(
            "{count} answers differ, but it is not known how far: one of the two ended there, or "
            "its lead was not recorded",
            count=found.unknown,
        )
        results.append((status, reason))
    return status, gettext("; ").join(reason for _, reason in results), excess_found


def _by_noise(
    found: Shifts, measured: Measured, noise: Sequence[Noise], factor: float, look: Look
) -> tuple[Status, str, Excess | None]:
    questions = len(measured.own.by_question)
    if questions < FEWEST_QUESTIONS:
        reason = gettext(
            "too few questions: {count}, at least {least} needed",
            count=questions,
            least=FEWEST_QUESTIONS,
        )
        return Status.INCONCLUSIVE, reason, None
    precise = {each.name for each in noise if each.dtype == replay.PRECISE}
    status, reason, result = replay.against_noise(measured, factor, look, precise, GET_NOISE)
    return status, reason, result


def _by_limits(found: Shifts, limits: NumericsConfig) -> tuple[Status, str]:
    """Check every limit that is set.

    The shift of a sum is at least that per token, so it can pass, but is no reason to fail.
    """
    broken = []
    for name, rank in RANKS.items():
        limit: float | None = getattr(limits, name)
        value = found.percentile(rank)
        if limit is not None and value > limit:
            shift = named(name, f"{value:.2g}")
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
    if broken and found.summed and len(reasons) == 1:
        return Status.INCONCLUSIVE, gettext(
            "{problem}, but these are sums over the tokens of a choice: neither run recorded the "
            "number of tokens; repeat one of them with this version",
            problem=reasons[0],
        )
    if reasons:
        return Status.FAILED, gettext("; ").join(reasons)
    return Status.PASSED, gettext("log-probability shift within the limits")


def _noise_said(found: Measured) -> list[str]:
    """Describe what the noise runs are compared by, one clause for each run."""
    if not found.own.by_question:
        return []
    own = math.sqrt(found.own.mean("squared"))
    return [
        gettext("RMS {rms:.2g} nats", rms=own),
        *(
            gettext(
                "noise ({run}): RMS {rms:.2g} nats", run=name, rms=math.sqrt(each.mean("squared"))
            )
            for name, each in found.noise.items()
        ),
        *(
            gettext("noise run {name} {problem}", name=name, problem=reason)
            for name, reason in found.unused.items()
        ),
    ]


def _answers(pairing: Pairing) -> Iterable[tuple[Sample, Sample]]:
    """Each question once, regardless of filters."""
    seen = set()
    for first, second in pairing.pairs:
        question = (second.task, second.doc_id)
        if question not in seen:
            seen.add(question)
            yield first, second
