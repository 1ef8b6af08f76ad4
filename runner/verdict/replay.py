"""`replay`: compares the probabilities that two engines give to the same answers with the noise.

The engine was made to generate the reference run's answers, so texts never diverge and every token
is compared. What is too much comes from replays on correct stacks, not from a fixed limit: no such
limit suits both a small model in float32 and a large one in bfloat16 (docs/verdict.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from runner.config.verdict import FEWEST_QUESTIONS, VerdictConfig
from runner.evidence.pairing import Pairing
from runner.evidence.samples import Sample
from runner.language import N_, gettext, ngettext
from runner.look import Look
from runner.outcome import TaskOutcome
from runner.stats import means
from runner.stats.excess import Excess, excess, filled
from runner.stats.outliers import APART
from runner.status import Status
from runner.verdict import boundary
from runner.verdict.cause import likely_cause
from runner.verdict.paired import unpaired
from runner.verdict.replay_measured import (
    NEGLIGIBLE,
    Measured,
    evidence,
    levels_of,
    measure,
    unasked_of,
    unused_runs,
)
from runner.verdict.result import MetricVerdict
from runner.verdict.rule import LATER, THE_REFERENCE, Against, Noise

# Stands in for the name of a metric.
METRIC = "replay"
# Root mean square, in nats, that rounding does not explain: ten times a value published for a
# correct pair of stacks in bfloat16 (0.031).
GROSS = 0.3
# Engines of this data type differ by less than NEGLIGIBLE where they are equal. Others repeat a
# question exactly or round, and what they repeat doesn't show how much another stack may differ.
PRECISE = "float32"
GET_NOISE = N_(
    "replay the same reference on correct stacks, and list these runs in verdict.replay.noise"
)
TEST = N_("tests of the mean difference and of the logarithm of its ratio to the noise")
TEST_OF_OUTLIERS = N_(
    "tests of the mean difference and of the logarithm of its ratio to the noise, and of the "
    "number of questions that stand out"
)

# Noise that is none.
GROSS_FROM_REFERENCE = N_(
    "{ratio}; but {run} differs from the reference run by an RMS of {rms:.2g} nats, which rounding "
    "does not explain (more than {limit:g}): one of them is not of a correct stack, so it shows no "
    "noise"
)
GROSS_FROM_RUN = N_(
    "{ratio}; but {run} differs from {other} by an RMS of {rms:.2g} nats, which rounding does not "
    "explain (more than {limit:g}): one of them is not of a correct stack, so it shows no noise"
)


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
    # Those that are asked before an early look are also a random draw, but of the chosen questions.
    drawn = config.replay.draw is not None or not (task.look.last or config.replay.questions)
    found = measure(reference, own, noise, config.numerics.near_tie, drawn=drawn)
    precise = {each.name for each in noise if each.dtype == PRECISE}
    excess_found = None
    if lonely:
        status = Status.INCONCLUSIVE
        reason = gettext("samples differ from the reference run: {differences}", differences=lonely)
    elif found.own.left_out or len(found.own.by_question) + found.own.empty != task.evaluated:
        status = Status.INCONCLUSIVE
        reason = gettext(
            "only {count} of {evaluated} questions could be compared: the others have other tokens "
            "than in the reference run (another tokenizer, or a truncated prompt), or no "
            "log-probabilities",
            count=len(found.own.by_question),
            evaluated=task.evaluated,
        )
    elif found.own.by_question and not found.own.finite:
        status = Status.FAILED
        reason = gettext("a log-probability is infinite or not a number")
    elif len(found.own.by_question) < FEWEST_QUESTIONS:
        status = Status.INCONCLUSIVE
        reason = gettext(
            "too few questions: {count}, at least {least} needed",
            count=len(found.own.by_question),
            least=FEWEST_QUESTIONS,
        )
    else:
        status, reason, excess_found = against_noise(
            found, config.replay.factor, task.look, precise, GET_NOISE
        )
    cause = ""
    if status is Status.FAILED and excess_found:
        cause = _cause(found, reference, own, noise, config)
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
        test=test_of(excess_found),
        p=excess_found.p if excess_found is not None else None,
        whole=task.whole,
        look=task.look,
        evidence=gettext("; ").join(filter(None, (*evidence(found), cause))),
        tolerated=boundary.of_limit(_limit(found, config.replay.factor, precise)),
    )


def _limit(found: Measured, factor: float, precise: Collection[str]) -> float | None:
    """The RMS difference, in nats, beyond which the mean difference exceeds the limit.

    None if logits are compared, which have another unit, or sums without noise.
    """
    if not found.own.by_question or found.statistic != "squared":
        return None
    if not found.noise:
        return None if found.own.summed else GROSS
    levels = levels_of(found, found.loudest, "squared")
    bars = levels if found.loudest in precise else filled(levels, NEGLIGIBLE)
    return math.sqrt(factor * means.mean(bars))


def describe(config: VerdictConfig, noise: int) -> str:
    """Describe the rule in one line; `noise` is the number of noise runs."""
    return gettext(
        "replay: log-probabilities along the reference run's answers; {limit}",
        limit=describe_limit(config.replay.factor, noise),
    )


def describe_limit(factor: float, noise: int) -> str:
    """Describe the limit that `against_noise` judges by; `noise` is the number of noise runs."""
    if noise:
        return ngettext(
            "limit {factor:g} × the noise of correct stacks ({count} noise run)",
            "limit {factor:g} × the noise of correct stacks ({count} noise runs)",
            noise,
            factor=factor,
        )
    return gettext(
        "without noise runs, nothing passes, and an RMS above {limit:g} nats fails", limit=GROSS
    )


def against_noise(
    found: Measured, factor: float, look: Look, precise: Collection[str], get_noise: str
) -> tuple[Status, str, Excess | None]:
    """Judge differences by the noise, or without any by what is gross.

    `precise` are the noise runs in float32. `get_noise` says how to get noise runs.
    """
    if not found.noise:
        return _gross(found, look, get_noise)
    name = found.statistic
    if not found.noise[found.loudest].mean(name) > 0:
        return (
            Status.INCONCLUSIVE,
            gettext(
                "all noise runs have the same log-probabilities, so they show no noise; add one "
                "that may differ, for example with another engine.window or tp{unused}",
                unused=unused_runs(found),
            ),
            None,
        )
    values = [max(getattr(each, name), NEGLIGIBLE) for each in found.own.by_question.values()]
    usual = filled(values, NEGLIGIBLE)
    measured = {each: levels_of(found, each, name) for each in found.noise}
    runs = {
        each: levels if each in precise else filled(levels, NEGLIGIBLE)
        for each, levels in measured.items()
    }
    every, bars = list(measured.values()), list(runs.values())
    rest = unasked_of(found, precise)
    result = excess(values, runs[found.loudest], factor, every, look, bars, usual, rest)
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
    ratio = gettext(
        "{mean:.2g} × the noise, {typical:.2g} × in a typical question",
        mean=result.ratio,
        typical=result.typical,
    )
    if result.outliers is not None and result.outliers.own:
        outliers = gettext(
            "{count} of {questions:,} questions differ more than {times:g} × those of any noise "
            "run",
            count=result.outliers.own,
            questions=len(values),
            times=APART * factor,
        )
        ratio = gettext("; ").join([ratio, outliers])
    if result.exceeds:
        said = gettext(
            "{ratio}; limit {factor:g} × (p = {p:.2g})", ratio=ratio, factor=factor, p=result.p
        )
        return Status.FAILED, said, result
    if result.within and not look.last:
        # Rare damage may be missing from the first questions, and no bound can allow for it.
        return Status.INCONCLUSIVE, gettext("; ").join([ratio, gettext(LATER)]), result
    noise = found.noise[found.loudest]
    rms = math.sqrt(noise.mean("squared"))
    if result.within and not noise.summed and rms > GROSS:
        return (
            Status.INCONCLUSIVE,
            gettext(
                GROSS_FROM_REFERENCE if found.base == THE_REFERENCE else GROSS_FROM_RUN,
                ratio=ratio,
                run=found.loudest,
                other=found.base,
                rms=rms,
                limit=GROSS,
            ),
            result,
        )
    if result.within:
        return (
            Status.PASSED,
            gettext(
                "{ratio}; at most {most:.2g} × (95 %), limit {factor:g} ×",
                ratio=ratio,
                most=result.upper,
                factor=factor,
            ),
            result,
        )
    if result.outliers is not None and result.upper < factor:
        said = gettext(
            "{ratio}, more than in an average noise run, but not significant (p = {p:.2g}); use "
            "more questions, or more noise runs",
            ratio=ratio,
            p=result.p,
        )
        return Status.INCONCLUSIVE, said, result
    said = gettext(
        "{ratio}; up to {most:.2g} × can't be ruled out (95 %), limit {factor:g} ×",
        ratio=ratio,
        most=result.upper,
        factor=factor,
    )
    if result.questions:
        more = gettext("about {count:,} questions would be enough", count=result.questions)
        said = gettext("; ").join([said, more])
    return Status.INCONCLUSIVE, said, result


def _too_little(found: Measured, name: str, repeated: int) -> str:
    return gettext(
        "the noise runs show too little noise: {repeated} of {questions:,} questions are the same "
        "in {run}, so it is not known how much correct stacks differ there; add one that may "
        "differ, for example with another engine.window or tp{unused}",
        repeated=repeated,
        questions=len(found.own.by_question),
        run=name,
        unused=unused_runs(found),
    )


def _gross(found: Measured, look: Look, get_noise: str) -> tuple[Status, str, Excess | None]:
    """Without noise, only a gross difference of tokens can be judged, and nothing can pass."""
    squares = [each.squared for each in found.own.by_question.values()]
    result = excess(squares, [GROSS**2] * len(squares), 1.0, look=look)
    rms = math.sqrt(found.own.mean("squared"))
    if result.exceeds and not found.own.summed:
        said = gettext(
            "RMS difference of {rms:.2g} nats, more than {limit:g}: ten times a value published "
            "for correct stacks in bfloat16 (p = {p:.2g})",
            rms=rms,
            limit=GROSS,
            p=result.p,
        )
        return Status.FAILED, said, result
    said = gettext(
        "RMS difference of {rms:.2g} nats, but it is not known how much correct stacks "
        "differ{unused}: {get_noise}",
        rms=rms,
        unused=unused_runs(found),
        get_noise=gettext(get_noise),
    )
    return Status.INCONCLUSIVE, said, None


def test_of(found: Excess | None) -> str:
    """Return the name of the test that `against_noise` used; empty if none."""
    if found is None:
        return ""
    return TEST if found.outliers is None else TEST_OF_OUTLIERS


def _cause(
    found: Measured,
    reference: Sequence[Sample],
    own: Sequence[Sample],
    noise: Sequence[Noise],
    config: VerdictConfig,
) -> str:
    """The likely cause; it takes recorded distributions, which a reference run may not have."""
    if found.statistic != "logits":
        return ""
    samples = {THE_REFERENCE: reference, **{each.name: each.samples for each in noise}}
    decoded = config.replay.way == "decode"
    return likely_cause(samples[found.base], own, samples[found.loudest], decoded)
