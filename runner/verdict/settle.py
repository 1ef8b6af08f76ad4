"""Turns findings of rules into verdicts, with a joint correction of all tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from runner.outcome import MetricResult
from runner.stats import ALPHA, shares
from runner.stats.drops import Drop
from runner.stats.several import holm
from runner.status import Status
from runner.verdict import boundary, cut, degenerate
from runner.verdict.doubts import ALLOW
from runner.verdict.result import MetricVerdict
from runner.verdict.rule import Case, Finding


@dataclass(frozen=True)
class Judged:
    """A metric, the finding of its rule, and reasons to doubt it."""

    case: Case
    finding: Finding
    doubts: str


def settled(found: Sequence[Judged | MetricVerdict], correction: str) -> tuple[MetricVerdict, ...]:
    """Return the verdicts; tests that can fail the run are corrected together.

    A pass needs no correction because every metric must pass.
    """
    tested = [
        each.finding.drop
        for each in found
        if isinstance(each, Judged) and each.finding.drop is not None
    ]
    p_values = [drop.p for drop in tested]
    corrected = iter(holm(p_values) if correction == "holm" else p_values)
    alpha = ALPHA / len(tested) if tested and correction == "holm" else ALPHA
    return tuple(
        each
        if isinstance(each, MetricVerdict)
        else _verdict(each, next(corrected) if each.finding.drop is not None else None, alpha)
        for each in found
    )


def _verdict(judged: Judged, p_adjusted: float | None, alpha: float) -> MetricVerdict:
    case, finding, drop = judged.case, judged.finding, judged.finding.drop
    margin = case.settings.margin
    result, status, reason = case.result, finding.status, finding.reason
    detectable, to_pass, to_fail = finding.detectable, finding.samples_to_pass, None
    if drop is not None:
        assert p_adjusted is not None
        detectable = drop.detectable(alpha)
        status, reason = decide(drop.drop, drop.upper, p_adjusted, margin)
        if status is Status.INCONCLUSIVE:
            to_pass, to_fail = drop.to_pass(margin), drop.to_fail(margin, alpha)
            reason += f"; {_needed(drop, to_pass, to_fail, margin)}"
    assert status is not None
    if status is Status.PASSED and judged.doubts:
        status, reason = Status.INCONCLUSIVE, judged.doubts
        if case.other_samples:
            reason += f"; to allow a pass, remove task.limit or set {ALLOW}=true"
        if case.degenerate:
            reason += f"; if the model itself gives such answers, set {degenerate.ALLOW}=true"
        if case.cut:
            reason += f"; raise task.max_gen_toks, or set {cut.ALLOW}=true"
    elif judged.doubts:
        reason = f"{reason}; {judged.doubts}"
    if not case.look.last:
        reason = f"{reason}; stopped at {result.n} of {result.whole} questions"
    baseline = case.baseline if finding.baseline is None else finding.baseline
    return MetricVerdict(
        task=result.task,
        metric=result.metric,
        filter=result.filter,
        status=status,
        value=result.value,
        stderr=result.stderr,
        interval=confidence_interval(result),
        n=result.n,
        baseline=baseline,
        difference=None if baseline is None else result.value - baseline,
        reason=reason,
        rule=case.settings.rule,
        test=drop.test if drop is not None else "",
        drop=drop.drop if drop is not None else None,
        p=drop.p if drop is not None else None,
        p_adjusted=p_adjusted,
        margin=margin if drop is not None else None,
        upper=drop.upper if drop is not None else None,
        detectable=detectable,
        samples_to_pass=to_pass,
        samples_to_fail=to_fail,
        clusters=finding.clusters,
        evidence=finding.evidence,
        whole=result.whole,
        tolerated=boundary.of_case(case, baseline),
        answers=result.repeated.samples if result.repeated is not None else 1,
        look=case.look,
    )


def _needed(drop: Drop, to_pass: int | None, to_fail: int | None, margin: float) -> str:
    """How many questions, or answers to each, are needed to pass and to fail at 80 % power."""
    error = f"the baseline's own standard error is {drop.known_error:.4f}"
    if to_pass is None and to_fail is None and drop.known_error:
        return (
            f"more samples cannot decide, because {error}; use a baseline of more questions, or a "
            "larger margin"
        )
    return f"{_to_pass(drop, to_pass, margin)}; {_to_fail(drop, to_fail)}"


def _to_pass(drop: Drop, samples: int | None, margin: float) -> str:
    if samples is None:
        return "without a drop, no number of samples is enough to pass at this margin"
    repeated = drop.repeated
    if repeated is None:
        return f"without a drop, about {samples:,} samples are needed to pass"
    each = "1 sample" if repeated.answers == 1 else f"{repeated.answers} samples"
    questions = f"about {samples:,} questions with {each} each"
    answers = repeated.answers_needed(drop.n, margin)
    if answers is None:
        return (
            f"without a drop, {questions} are needed to pass; more samples of only {drop.n} "
            "questions in this run are not enough"
        )
    return (
        f"without a drop, {questions}, or {answers:,} samples of each of these {drop.n}, are "
        "needed to pass"
    )


def _to_fail(drop: Drop, samples: int | None) -> str:
    if samples is None:
        return "no number is enough to fail a drop of twice the margin"
    unit = "questions" if drop.repeated is not None else "samples"
    return f"with a drop of twice the margin, about {samples:,} {unit} are needed to fail"


def decide(drop: float, upper: float, p: float, margin: float) -> tuple[Status, str]:
    """Return status and reason; a drop whose bound is below the margin passes."""
    if abs(drop) < 5e-5:
        said = "no drop"
    else:
        said = f"a drop of {drop:.4f}" if drop > 0 else f"a gain of {-drop:.4f}"
    if upper < margin:
        most = f"at most {upper:.4f}" if upper > 0 else f"a gain of at least {-upper:.4f}"
        return Status.PASSED, f"{said}; {most} (95 %), below the margin of {margin:g}"
    if p <= ALPHA:
        return Status.FAILED, f"{said} is statistically significant (p = {p:.2g})"
    chance = f" is not statistically significant (p = {p:.2g})" if drop >= 5e-5 else ""
    most = f"of up to {upper:.4f}" if math.isfinite(upper) else "of any size"
    return (
        Status.INCONCLUSIVE,
        f"{said}{chance}; a drop {most} cannot be ruled out (95 %), margin {margin:g}",
    )


def confidence_interval(result: MetricResult) -> tuple[float, float] | None:
    """Return the two-sided 95 % interval of the value, None without a standard error.

    Wilson's for 0/1 scores, else value ± 1.96 standard errors. If all questions have the same mean
    of several 0/1 scores, Wilson's as well, which is then too wide rather than too narrow.
    """
    if not math.isfinite(result.value):
        return None
    if result.binary and result.n > 0:
        return shares.wilson(result.value, result.n)
    if result.stderr is None or not math.isfinite(result.stderr):
        return None
    half = NormalDist().inv_cdf(0.975) * result.stderr
    low, high = result.value - half, result.value + half
    if result.repeated is None or result.repeated.passed is None:
        return (low, high)
    return (max(low, 0.0), min(high, 1.0)) if half else shares.wilson(result.value, result.n)


def shown(result: MetricResult, reason: str = "no baseline") -> MetricVerdict:
    return MetricVerdict(
        task=result.task,
        metric=result.metric,
        filter=result.filter,
        status=Status.UNJUDGED,
        value=result.value,
        stderr=result.stderr,
        interval=confidence_interval(result),
        n=result.n,
        baseline=None,
        difference=None,
        reason=reason,
        whole=result.whole,
    )


def missing(task: str, metric: str, filter_name: str, baseline: float) -> MetricVerdict:
    return replace(
        _nothing(task, metric, filter_name, "has a baseline but was not measured"),
        baseline=baseline,
    )


def unheld(task: str, metric: str, filter_name: str, rule: str) -> MetricVerdict:
    """Return an INCONCLUSIVE verdict for a listed metric without baseline or reference value."""
    lacking = "the reference run has no value" if rule == "paired" else "there is no baseline"
    reason = f"listed in verdict.metrics, but {lacking} for it"
    return replace(
        _nothing(task, metric, filter_name, reason), status=Status.INCONCLUSIVE, rule=rule
    )


def _nothing(task: str, metric: str, filter_name: str, reason: str) -> MetricVerdict:
    return MetricVerdict(
        task=task,
        metric=metric,
        filter=filter_name,
        status=Status.UNJUDGED,
        value=None,
        stderr=None,
        interval=None,
        n=0,
        baseline=None,
        difference=None,
        reason=reason,
    )
