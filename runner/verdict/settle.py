"""Turns findings of rules into verdicts, with a joint correction of all tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from runner.language import N_, gettext, ngettext
from runner.outcome import MetricResult
from runner.stats import ALPHA, shares
from runner.stats.drops import Drop
from runner.stats.several import holm
from runner.status import Status
from runner.verdict import boundary, cut, degenerate
from runner.verdict.doubts import ALLOW
from runner.verdict.result import MetricVerdict
from runner.verdict.rule import Case, Finding

NO_BASELINE = N_("no baseline")


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
            reason = gettext("; ").join([reason, *_needed(drop, to_pass, to_fail, margin)])
    assert status is not None
    if status is Status.PASSED and judged.doubts:
        status, reason = Status.INCONCLUSIVE, gettext("; ").join([judged.doubts, *_remedies(case)])
    elif judged.doubts:
        reason = gettext("; ").join([reason, judged.doubts])
    if not case.look.last:
        stopped = gettext(
            "stopped at {count} of {whole} questions", count=result.n, whole=result.whole
        )
        reason = gettext("; ").join([reason, stopped])
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


def _remedies(case: Case) -> list[str]:
    """What allows the metric to pass in spite of the doubts."""
    found = []
    if case.other_samples:
        found.append(gettext("to allow a pass, remove task.limit or set {key}=true", key=ALLOW))
    if case.degenerate:
        found.append(
            gettext("if the model itself gives such answers, set {key}=true", key=degenerate.ALLOW)
        )
    if case.cut:
        found.append(gettext("raise task.max_gen_toks, or set {key}=true", key=cut.ALLOW))
    return found


def _needed(drop: Drop, to_pass: int | None, to_fail: int | None, margin: float) -> list[str]:
    """How many questions, or answers to each, are needed to pass and to fail at 80 % power."""
    if to_pass is None and to_fail is None and drop.known_error:
        return [
            gettext(
                "more samples cannot decide, because the baseline's own standard error is "
                "{error:.4f}; use a baseline of more questions, or a larger margin",
                error=drop.known_error,
            )
        ]
    return [_to_pass(drop, to_pass, margin), _to_fail(drop, to_fail)]


def _to_pass(drop: Drop, samples: int | None, margin: float) -> str:
    if samples is None:
        return gettext("without a drop, no number of samples is enough to pass at this margin")
    repeated = drop.repeated
    if repeated is None:
        return gettext(
            "without a drop, about {samples:,} samples are needed to pass", samples=samples
        )
    questions = ngettext(
        "about {questions:,} questions with {count} sample each",
        "about {questions:,} questions with {count} samples each",
        repeated.answers,
        questions=samples,
    )
    answers = repeated.answers_needed(drop.n, margin)
    if answers is None:
        return gettext(
            "without a drop, {questions} are needed to pass; more samples of only {count} "
            "questions in this run are not enough",
            questions=questions,
            count=drop.n,
        )
    return gettext(
        "without a drop, {questions}, or {answers:,} samples of each of these {count}, are needed "
        "to pass",
        questions=questions,
        answers=answers,
        count=drop.n,
    )


def _to_fail(drop: Drop, samples: int | None) -> str:
    if samples is None:
        return gettext("no number is enough to fail a drop of twice the margin")
    if drop.repeated is not None:
        said = N_("with a drop of twice the margin, about {count:,} questions are needed to fail")
    else:
        said = N_("with a drop of twice the margin, about {count:,} samples are needed to fail")
    return gettext(said, count=samples)


def decide(drop: float, upper: float, p: float, margin: float) -> tuple[Status, str]:
    """Return status and reason; a drop whose bound is below the margin passes."""
    if abs(drop) < 5e-5:
        change = gettext("no drop")
    elif drop > 0:
        change = gettext("a drop of {drop:.4f}", drop=drop)
    else:
        change = gettext("a gain of {gain:.4f}", gain=-drop)
    if upper < margin:
        if upper > 0:
            bound = N_("{change}; at most {most:.4f} (95 %), below the margin of {margin:g}")
        else:
            bound = N_(
                "{change}; a gain of at least {least:.4f} (95 %), below the margin of {margin:g}"
            )
        said = gettext(bound, change=change, most=upper, least=-upper, margin=margin)
        return Status.PASSED, said
    if p <= ALPHA:
        said = gettext("{change} is statistically significant (p = {p:.2g})", change=change, p=p)
        return Status.FAILED, said
    if drop >= 5e-5:
        change = gettext(
            "{change} is not statistically significant (p = {p:.2g})", change=change, p=p
        )
    if math.isfinite(upper):
        bound = N_(
            "{change}; a drop of up to {most:.4f} cannot be ruled out (95 %), margin {margin:g}"
        )
    else:
        bound = N_("{change}; a drop of any size cannot be ruled out (95 %), margin {margin:g}")
    said = gettext(bound, change=change, most=upper, margin=margin)
    return Status.INCONCLUSIVE, said


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


def shown(result: MetricResult, reason: str = NO_BASELINE) -> MetricVerdict:
    """Return the metric as UNJUDGED, for a `reason` that is still to be translated."""
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
        reason=gettext(reason),
        whole=result.whole,
    )


def missing(task: str, metric: str, filter_name: str, baseline: float) -> MetricVerdict:
    return replace(
        _nothing(task, metric, filter_name, gettext("has a baseline but was not measured")),
        baseline=baseline,
    )


def unheld(task: str, metric: str, filter_name: str, rule: str) -> MetricVerdict:
    """Return an INCONCLUSIVE verdict for a listed metric without baseline or reference value."""
    if rule == "paired":
        reason = gettext("listed in verdict.metrics, but the reference run has no value for it")
    else:
        reason = gettext("listed in verdict.metrics, but there is no baseline for it")
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
