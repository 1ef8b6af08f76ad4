"""`replay`: compares the probabilities that two engines give to the same answers with the noise.

The engine was made to generate the reference run's answers, so texts never diverge and every token
is compared. What is too much comes from replays on correct stacks, not from a fixed limit: no such
limit suits both a small model in float32 and a large one in bfloat16 (docs/verdict.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.verdict import VerdictConfig
from runner.evidence.pairing import Pairing, pair
from runner.evidence.replayed import Differences, differences
from runner.evidence.samples import Sample
from runner.outcome import TaskOutcome
from runner.stats.excess import Excess, excess
from runner.status import Status
from runner.verdict.cause import likely_cause
from runner.verdict.paired import unpaired
from runner.verdict.result import MetricVerdict
from runner.verdict.rule import Against, Noise

# Stands in for the name of a metric.
METRIC = "replay"
# With fewer questions, one of them decides.
ENOUGH = 20
# Root mean square, in nats, that rounding does not explain: ten times a value published for a
# correct pair of stacks in bfloat16 (0.031).
GROSS = 0.3
# Noise in float32 is so small that another correct stack may have several times as much. Mean
# squares were below 1e-9 wherever it was measured, so 1e-8 (an RMS of 1e-4 nats) is never a fault.
NEGLIGIBLE = 1e-8
TEST = "tests of the mean difference and of the logarithm of its ratio to the noise"


@dataclass(frozen=True)
class _Measured:
    """This run's differences, and those of each noise run, from the same base.

    The base is the reference run. It did not record distributions; so if there are several noise
    runs, the base is the one that is nearest to the reference run, ideally of the same stack.
    """

    base: str
    own: Differences
    noise: dict[str, Differences]
    # Why some noise runs can't be used, by name.
    unused: dict[str, str]

    @property
    def statistic(self) -> str:
        """The judged difference: the divergence, or the square where it was not recorded."""
        every = (self.own, *self.noise.values())
        whole = all(
            each.divergence is not None for found in every for each in found.by_question.values()
        )
        return "divergence" if whole and self.noise else "squared"

    @property
    def loudest(self) -> str:
        """The noise run that differs most."""
        return max(self.noise, key=lambda name: self.noise[name].mean(self.statistic))


def judge(
    task: TaskOutcome,
    pairing: Pairing,
    limited: bool,
    config: VerdictConfig,
    against: Against | None,
) -> MetricVerdict:
    """Return the verdict `replay` of the task; its value is the RMS difference, in nats."""
    lonely = unpaired(pairing, limited)
    own = [second for _, second in pairing.pairs]
    noise = against.noise if against is not None else ()
    found = _measured([first for first, _ in pairing.pairs], own, noise, config.numerics.near_tie)
    excess_found = None
    if lonely:
        status, reason = Status.INCONCLUSIVE, f"samples differ from the reference run: {lonely}"
    elif found.own.left_out or len(found.own.by_question) + found.own.empty != task.evaluated:
        status = Status.INCONCLUSIVE
        reason = (
            f"only {len(found.own.by_question)} of {task.evaluated} questions could be compared: "
            "the others have other tokens than in the reference run (another tokenizer, or a "
            "truncated prompt), or no log-probabilities"
        )
    elif found.own.by_question and not found.own.finite:
        status, reason = Status.FAILED, "a log-probability is infinite or not a number"
    elif len(found.own.by_question) < ENOUGH:
        status = Status.INCONCLUSIVE
        reason = f"too few questions: {len(found.own.by_question)}, at least {ENOUGH} needed"
    else:
        status, reason, excess_found = _against(found, config.replay.factor)
    return MetricVerdict(
        task=task.task,
        metric=METRIC,
        filter="none",
        status=status,
        value=math.sqrt(found.own.mean("squared")) if found.own.by_question else None,
        stderr=None,
        interval=None,
        n=len(found.own.by_question),
        baseline=None,
        difference=None,
        reason=reason,
        rule="replay",
        test=TEST if excess_found is not None else "",
        p=excess_found.p if excess_found is not None else None,
        whole=task.whole,
        evidence=_evidence(found)
        + (_cause(found, own, noise, config) if status is Status.FAILED and excess_found else ""),
    )


def describe(config: VerdictConfig, noise: int) -> str:
    """Describe the rule in one line; `noise` is the number of noise runs."""
    runs = f"{noise} noise run{'s' if noise > 1 else ''}"
    limit = (
        f"limit {config.replay.factor:g} × the noise of correct stacks ({runs})"
        if noise
        else f"without noise runs, nothing passes, and an RMS above {GROSS:g} nats fails"
    )
    return f"replay: log-probabilities along the reference run's answers; {limit}"


def _measured(
    reference: Sequence[Sample], own: Sequence[Sample], noise: Sequence[Noise], near_tie: float
) -> _Measured:
    asked = {(each.task, each.doc_id) for each in own}

    def compared(first: Sequence[Sample], second: Sequence[Sample]) -> Differences:
        wanted = [each for each in second if (each.task, each.doc_id) in asked]
        return differences(pair(first, wanted).pairs, near_tie)

    from_reference = compared(reference, own)
    replays = {each.name: compared(reference, each.samples) for each in noise}
    unused = {}
    for name, each in replays.items():
        if not from_reference.by_question.keys() <= each.by_question.keys():
            unused[name] = "did not replay all of these questions"
        elif not each.finite:
            unused[name] = "has log-probabilities that are infinite or not a number"
    replays = {name: each for name, each in replays.items() if name not in unused}
    if len(replays) < 2:
        return _Measured("the reference run", from_reference, replays, unused)
    nearest = min(replays, key=lambda name: replays[name].mean("squared"))
    samples = {each.name: each.samples for each in noise}
    others = {n: compared(samples[nearest], samples[n]) for n in replays if n != nearest}
    return _Measured(nearest, compared(samples[nearest], own), others, unused)


def _against(found: _Measured, factor: float) -> tuple[Status, str, Excess | None]:
    if not found.noise:
        return _gross(found)
    name = found.statistic
    noise = found.noise[found.loudest]
    if not noise.mean(name) > 0:
        return (
            Status.INCONCLUSIVE,
            "all noise runs have the same log-probabilities, so they show no noise; add one that "
            f"may differ, for example with another engine.window or tp{_unused(found)}",
            None,
        )
    values = [getattr(each, name) for each in found.own.by_question.values()]
    levels = [
        max(getattr(noise.by_question[key], name), NEGLIGIBLE) for key in found.own.by_question
    ]
    result = excess(values, levels, factor)
    ratio = f"{result.ratio:.2g} × the noise, {result.typical:.2g} × in a typical question"
    if result.exceeds:
        return Status.FAILED, f"{ratio}; limit {factor:g} × (p = {result.p:.2g})", result
    if result.within:
        return (
            Status.PASSED,
            f"{ratio}; at most {result.upper:.2g} × (95 %), limit {factor:g} ×",
            result,
        )
    more = f"; about {result.questions:,} questions would be enough" if result.questions else ""
    return (
        Status.INCONCLUSIVE,
        f"{ratio}; up to {result.upper:.2g} × can't be ruled out (95 %), limit {factor:g} ×{more}",
        result,
    )


def _gross(found: _Measured) -> tuple[Status, str, Excess | None]:
    """Without noise, only a gross difference of tokens can be judged, and nothing can pass."""
    every = found.own.by_question.values()
    squares = [each.squared for each in every]
    result = excess(squares, [GROSS**2] * len(squares), 1.0)
    size = f"RMS difference of {math.sqrt(found.own.mean('squared')):.2g} nats"
    # Log-likelihoods of choices and texts are sums over any number of tokens.
    if result.exceeds and not any(each.summed for each in every):
        return (
            Status.FAILED,
            f"{size}, more than {GROSS:g}: ten times a value published for correct stacks "
            f"in bfloat16 (p = {result.p:.2g})",
            result,
        )
    return (
        Status.INCONCLUSIVE,
        f"{size}, but it is not known how much correct stacks differ{_unused(found)}: replay the "
        "same reference on correct stacks, and list these runs in verdict.replay.noise",
        None,
    )


def _unused(found: _Measured) -> str:
    said = "; ".join(f"{name} {reason}" for name, reason in found.unused.items())
    return f" ({said})" if said else ""


def _evidence(found: _Measured) -> str:
    if not found.own.by_question:
        return ""
    parts = [f"difference from {found.base}: {_said(found.own)}"]
    parts += [f"noise ({name}): {_said(each)}" for name, each in found.noise.items()]
    parts += [f"noise run {name} {reason}" for name, reason in found.unused.items()]
    return "; ".join(parts)


def _cause(
    found: _Measured, own: Sequence[Sample], noise: Sequence[Noise], config: VerdictConfig
) -> str:
    """The likely cause; it takes recorded distributions, which the reference run does not have."""
    samples = {each.name: each.samples for each in noise}
    if found.base not in samples:
        return ""
    decoded = config.replay.way == "decode"
    said = likely_cause(samples[found.base], own, samples[found.loudest], decoded)
    return f"; {said}" if said else ""


def _said(found: Differences) -> str:
    every = found.by_question.values()
    tokens, flips = sum(each.tokens for each in every), sum(each.flips for each in every)
    divergence = (
        f"mean KL {found.mean('divergence'):.2g}, "
        if all(each.divergence is not None for each in every)
        else ""
    )
    return (
        f"{divergence}RMS {math.sqrt(found.mean('squared')):.2g}, mean |Δ log p| "
        f"{found.mean('absolute'):.2g}, mean Δ log p {found.mean('signed'):+.2g} nats, "
        f"{flips} of {tokens:,} tokens are no longer the likeliest"
    )
