"""`not_worse`: a one-sided test against a fixed baseline, with the run's own error."""

from __future__ import annotations

import math
from dataclasses import replace

from runner.stats import drops, estimates, means
from runner.stats.drops import Drop
from runner.status import Status
from runner.verdict.rule import Case, Finding, refused
from runner.verdict.scores import (
    NoMean,
    Scores,
    Unusable,
    cluster_words,
    clustered,
    clusters,
    direction,
    own_scores,
    span,
)


def judge(case: Case) -> Finding:
    """Test with the exact binomial test for 0/1 scores, else Student's t or, for questions asked
    several times, a betting test. A baseline without an error of its own is taken as exact.

    A value that is not the mean of its sample scores is judged by lm-eval's standard error.
    """
    value, baseline = case.result.value, case.baseline
    assert baseline is not None
    if not math.isfinite(value):
        return Finding(Status.FAILED, f"the value is {value}")
    try:
        sign = direction(case)
        drop, groups = _from_samples(case, baseline, sign)
    except NoMean as no_mean:
        error = case.result.stderr
        if case.result.n <= 0 or error is None or not math.isfinite(error) or error <= 0:
            return refused(f"{no_mean}; lm-eval reports no standard error")
        known = case.stated.error if case.stated is not None else 0.0
        drop = drops.of_estimate(sign * (baseline - value), math.hypot(error, known), case.result.n)
        drop = replace(drop, known_error=known)
        return Finding(drop=drop, evidence=f"based on lm-eval's standard error ({no_mean})")
    except Unusable as unusable:
        return refused(str(unusable))
    return Finding(
        drop=drop,
        clusters=len(set(groups)) if clustered(case, groups) else None,
        evidence=cluster_words(case, groups),
    )


def _from_estimates(case: Case, own: Scores, error: float, sign: int, within: bool) -> Drop:
    """The drop from a baseline that was measured on some number of answers."""
    known = case.stated
    assert known is not None
    if own.binary:
        value = estimates.share(math.fsum(own.values), len(own.values))
    elif own.repeated and within:
        value = estimates.bounded(own.values)
    else:
        value = estimates.student(own.values)
    if known.stderr is None and known.n is not None:
        answers = known.n * known.samples
        baseline = estimates.share(known.value * answers, answers)
    else:
        baseline = estimates.normal(known.value, error)
    if sign < 0:
        value, baseline = estimates.flipped(value), estimates.flipped(baseline)
    stderr = means.standard_error(own.values)
    return drops.of_estimates(value, stderr, len(own.values), baseline, error)


def _from_samples(case: Case, baseline: float, sign: int) -> tuple[Drop, tuple[str, ...]]:
    own = own_scores(case)
    differences = [sign * (baseline - score) for score in own.values]
    error = case.stated.error if case.stated is not None else 0.0
    within = all(0 <= value <= 1 for value in (*own.values, baseline))
    if error > 0:
        drop = _from_estimates(case, own, error, sign, within)
    elif own.repeated and within:
        drop = drops.of_means(own.answers, baseline, sign)
    elif own.binary:
        right = round(math.fsum(own.values))
        n = len(own.values)
        drop = (
            drops.of_share(right, n, baseline)
            if sign > 0
            else drops.of_share(n - right, n, 1 - baseline)
        )
    else:
        drop = drops.of_differences(differences, span=span((*own.values, baseline)))
    groups = clusters(case.samples, case)
    if clustered(case, groups):
        tested = case.settings.cluster != "subject"
        drop = drops.in_clusters(drop, differences, groups, tested)
    return drop, groups
