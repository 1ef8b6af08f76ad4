"""`not_worse`: a one-sided test against a fixed baseline, with the run's own error."""

from __future__ import annotations

import math

from runner.stats import drops
from runner.stats.drops import Drop
from runner.status import Status
from runner.verdict.rule import Case, Finding, refused
from runner.verdict.scores import (
    NoMean,
    Unusable,
    cluster_words,
    clustered,
    clusters,
    direction,
    own_scores,
    span,
)


def judge(case: Case) -> Finding:
    """Test with the exact binomial test for 0/1 scores, else Student's t; the baseline is exact.

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
        drop = drops.of_estimate(sign * (baseline - value), error, case.result.n)
        return Finding(drop=drop, evidence=f"based on lm-eval's standard error ({no_mean})")
    except Unusable as unusable:
        return refused(str(unusable))
    return Finding(
        drop=drop,
        clusters=len(set(groups)) if clustered(case, groups) else None,
        evidence=cluster_words(case, groups),
    )


def _from_samples(case: Case, baseline: float, sign: int) -> tuple[Drop, tuple[str, ...]]:
    own = own_scores(case)
    differences = [sign * (baseline - score) for score in own.values]
    if own.binary:
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
