"""`replay`: compares the probabilities that two engines give to the same answers with the noise.

The engine was made to generate the reference run's answers, so texts never diverge and every token
is compared. What is too much comes from replays on correct stacks, not from a fixed limit: no such
limit suits both a small model in float32 and a large one in bfloat16 (docs/verdict.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from runner.config.verdict import VerdictConfig
from runner.evidence.pairing import Pairing, pair
from runner.evidence.replayed import Differences, differences
from runner.evidence.samples import Sample
from runner.look import Look
from runner.outcome import TaskOutcome
from runner.stats import means
from runner.stats.excess import Excess, excess, filled
from runner.stats.outliers import APART
from runner.status import Status
from runner.verdict import boundary
from runner.verdict.cause import likely_cause
from runner.verdict.paired import unpaired
from runner.verdict.result import MetricVerdict
from runner.verdict.rule import LATER, Against, Noise

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
# Engines of this data type differ by less than NEGLIGIBLE where they are equal. Others repeat a
# question exactly or round, and what they repeat doesn't show how much another stack may differ.
PRECISE = "float32"
TEST = "tests of the mean difference and of the logarithm of its ratio to the noise"
# The name of the reference run where a noise run could be named.
REFERENCE = "the reference run"
SINGLE = ", and of the number of questions that stand out"


@dataclass(frozen=True)
class _Measured:
    """This run's differences, and those of each noise run, from the same base.

    The base is the reference run. If there are several noise runs, it is the one of these that is
    nearest to the reference run, ideally of the same stack: it always recorded distributions, and
    what the reference run's own engine does differently is not in the differences.
    """

    base: str
    own: Differences
    noise: dict[str, Differences]
    # Why some noise runs can't be used, by name.
    unused: dict[str, str]

    @property
    def statistic(self) -> str:
        """The judged difference: of the logits, or the square where they were not recorded."""
        every = (self.own, *self.noise.values())
        whole = all(
            each.logits is not None for found in every for each in found.by_question.values()
        )
        return "logits" if whole and self.noise else "squared"

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
    reference = [first for first, _ in pairing.pairs]
    found = _measured(reference, own, noise, config.numerics.near_tie)
    precise = {each.name for each in noise if each.dtype == PRECISE}
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
        status, reason, excess_found = _against(found, config.replay.factor, task.look, precise)
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
        test=_test(excess_found),
        p=excess_found.p if excess_found is not None else None,
        whole=task.whole,
        look=task.look,
        evidence=_evidence(found)
        + (
            _cause(found, reference, own, noise, config)
            if status is Status.FAILED and excess_found
            else ""
        ),
        tolerated=boundary.of_limit(_limit(found, config.replay.factor, precise)),
    )


def _limit(found: _Measured, factor: float, precise: Collection[str]) -> float | None:
    """The RMS difference, in nats, beyond which the mean difference exceeds the limit.

    None if logits are compared, which have another unit, or sums without noise.
    """
    if not found.own.by_question or found.statistic != "squared":
        return None
    if not found.noise:
        return None if found.own.summed else GROSS
    levels = _levels(found, found.loudest, "squared")
    bars = levels if found.loudest in precise else filled(levels, NEGLIGIBLE)
    return math.sqrt(factor * means.mean(bars))


def _levels(found: _Measured, noise: str, name: str) -> list[float]:
    """The difference of a noise run in each question of the run."""
    known = found.noise[noise].by_question
    return [max(getattr(known[key], name), NEGLIGIBLE) for key in found.own.by_question]


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
    base, measured = REFERENCE, from_reference
    # What can't be compared with the reference run is not comparable, whatever the base is.
    whole = bool(from_reference.by_question) and not from_reference.left_out
    if len(replays) > 1 and whole:
        base = min(replays, key=lambda name: replays[name].mean("squared"))
        samples = {each.name: each.samples for each in noise}
        measured = compared(samples[base], own)
        replays = {n: compared(samples[base], samples[n]) for n in replays if n != base}
    for name, each in list(replays.items()):
        if each.summed != measured.summed:  # a sum is no noise for a difference per token
            why = "has no number of tokens for its choices, because its version recorded none"
        elif not measured.by_question.keys() <= each.by_question.keys():
            why = f"can't be compared with {base} in all of these questions"
        elif not each.finite:
            why = "has log-probabilities that are infinite or not a number"
        else:
            continue
        unused[name] = why
        del replays[name]
    return _Measured(base, measured, replays, unused)


def _against(
    found: _Measured, factor: float, look: Look, precise: Collection[str]
) -> tuple[Status, str, Excess | None]:
    if not found.noise:
        return _gross(found, look)
    name = found.statistic
    if not found.noise[found.loudest].mean(name) > 0:
        return (
            Status.INCONCLUSIVE,
            "all noise runs have the same log-probabilities, so they show no noise; add one that "
            f"may differ, for example with another engine.window or tp{_unused(found)}",
            None,
        )
    values = [max(getattr(each, name), NEGLIGIBLE) for each in found.own.by_question.values()]
    usual = filled(values, NEGLIGIBLE)
    measured = {each: _levels(found, each, name) for each in found.noise}
    runs = {
        each: levels if each in precise else filled(levels, NEGLIGIBLE)
        for each, levels in measured.items()
    }
    every, bars = list(measured.values()), list(runs.values())
    result = excess(values, runs[found.loudest], factor, every, look, bars, usual)
    same = {
        name: sum(each == NEGLIGIBLE for each in levels)
        for name, levels in measured.items()
        if name not in precise
    }
    most = max(same, key=same.__getitem__, default="")
    if not result.exceeds and most and 2 * same[most] > len(values):
        # The few questions that differ don't show what is usual, so nothing may pass by them.
        result = excess(values, measured[found.loudest], factor, every, look, usual=usual)
        if result.exceeds:
            return Status.INCONCLUSIVE, _too_little(found, most, same[most]), None
    ratio = f"{result.ratio:.2g} × the noise, {result.typical:.2g} × in a typical question"
    if result.outliers is not None and result.outliers.own:
        ratio += (
            f"; {result.outliers.own} of {len(values):,} questions differ more than "
            f"{APART * factor:g} × those of any noise run"
        )
    if result.exceeds:
        return Status.FAILED, f"{ratio}; limit {factor:g} × (p = {result.p:.2g})", result
    if result.within and not look.last:
        # Rare damage may be missing from the first questions, and no bound can allow for it.
        return Status.INCONCLUSIVE, f"{ratio}; {LATER}", result
    noise = found.noise[found.loudest]
    rms = math.sqrt(noise.mean("squared"))
    if result.within and not noise.summed and rms > GROSS:
        return (
            Status.INCONCLUSIVE,
            f"{ratio}; but {found.loudest} differs from {found.base} by an RMS of {rms:.2g} nats, "
            f"which rounding does not explain (more than {GROSS:g}): one of them is not of a "
            "correct stack, so it shows no noise",
            result,
        )
    if result.within:
        return (
            Status.PASSED,
            f"{ratio}; at most {result.upper:.2g} × (95 %), limit {factor:g} ×",
            result,
        )
    if result.outliers is not None and result.upper < factor:
        more = "more than in an average noise run, but not significant"
        advice = "use more questions, or more noise runs"
        return Status.INCONCLUSIVE, f"{ratio}, {more} (p = {result.p:.2g}); {advice}", result
    more = f"; about {result.questions:,} questions would be enough" if result.questions else ""
    return (
        Status.INCONCLUSIVE,
        f"{ratio}; up to {result.upper:.2g} × can't be ruled out (95 %), limit {factor:g} ×{more}",
        result,
    )


def _too_little(found: _Measured, name: str, repeated: int) -> str:
    return (
        f"the noise runs show too little noise: {repeated} of {len(found.own.by_question):,} "
        f"questions are the same in {name}, so it is not known how much correct stacks differ "
        "there; add one that may differ, for example with another "
        f"engine.window or tp{_unused(found)}"
    )


def _gross(found: _Measured, look: Look) -> tuple[Status, str, Excess | None]:
    """Without noise, only a gross difference of tokens can be judged, and nothing can pass."""
    squares = [each.squared for each in found.own.by_question.values()]
    result = excess(squares, [GROSS**2] * len(squares), 1.0, look=look)
    size = f"RMS difference of {math.sqrt(found.own.mean('squared')):.2g} nats"
    if result.exceeds and not found.own.summed:
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


def _test(found: Excess | None) -> str:
    if found is None:
        return ""
    return TEST if found.outliers is None else TEST + SINGLE


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
    found: _Measured,
    reference: Sequence[Sample],
    own: Sequence[Sample],
    noise: Sequence[Noise],
    config: VerdictConfig,
) -> str:
    """The likely cause; it takes recorded distributions, which a reference run may not have."""
    if found.statistic != "logits":
        return ""
    samples = {REFERENCE: reference, **{each.name: each.samples for each in noise}}
    decoded = config.replay.way == "decode"
    said = likely_cause(samples[found.base], own, samples[found.loudest], decoded)
    return f"; {said}" if said else ""


def _said(found: Differences) -> str:
    every = found.by_question.values()
    tokens, flips = sum(each.tokens for each in every), sum(each.flips for each in every)
    recorded = (
        f"mean variance of logits {found.mean('logits'):.2g} nats², "
        f"mean KL {found.mean('divergence'):.2g}, "
        if all(each.logits is not None for each in every)
        else ""
    )
    return (
        f"{recorded}RMS {math.sqrt(found.mean('squared')):.2g}, mean |Δ log p| "
        f"{found.mean('absolute'):.2g}, mean Δ log p {found.mean('signed'):+.2g} nats, "
        f"{flips} of {tokens:,} tokens are no longer the likeliest"
    )
