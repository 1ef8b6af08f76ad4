"""`not_worse`: a one-sided test against a fixed baseline, with the run's own error."""

from __future__ import annotations

import math
from dataclasses import replace

from runner.language import gettext
from runner.stats import drops, estimates, means
from runner.stats.clusters import in_clusters
from runner.stats.drops import Drop
from runner.stats.limits import Limits
from runner.stats.resampling import FEW
from runner.verdict.limits import assumption, require_failable, require_many, usable_limits
from runner.verdict.looked import judged_early, not_finite
from runner.verdict.rule import LATER, Case, Finding, refused
from runner.verdict.scores import (
    NoMean,
    Scores,
    Unusable,
    cluster_words,
    clustered,
    clusters,
    direction,
    own_scores,
)


def judge(case: Case) -> Finding:
    """Test with the exact binomial test for 0/1 scores, else Student's t or, for questions asked
    several times, a betting test. A baseline without an error of its own is taken as exact.

    A value that is not the mean of its sample scores is judged by lm-eval's standard error.
    """
    value, baseline = case.result.value, case.baseline
    assert baseline is not None
    if not math.isfinite(value):
        return not_finite(case)
    try:
        sign = direction(case)
        own = own_scores(case)
        limits = usable_limits(case, (*own.values, baseline), len(own.values))
        require_failable(case, limits.drops(baseline, sign))
        drop, groups = _from_samples(case, own, baseline, sign, limits)
    except NoMean as no_mean:
        return _from_error(case, baseline, str(no_mean))
    except Unusable as unusable:
        return refused(str(unusable))
    return Finding(
        drop=drop,
        clusters=len(set(groups)) if clustered(case, groups) else None,
        evidence=gettext("; ").join(
            filter(None, (cluster_words(case, groups), assumption(limits)))
        ),
    )


def _from_error(case: Case, baseline: float, no_mean: str) -> Finding:
    """The finding for a value that is not the mean of its sample scores."""
    if not case.look.last:
        return refused(gettext(LATER))
    error, n = case.result.stderr, case.result.n
    if error is None or not math.isfinite(error) or error <= 0:
        return refused(gettext("{problem}; lm-eval reports no standard error", problem=no_mean))
    try:
        require_many(case, n)
        drop = direction(case) * (baseline - case.result.value)
    except Unusable as unusable:
        return refused(gettext("; ").join([no_mean, str(unusable)]))
    known = case.stated.error if case.stated is not None else 0.0
    return Finding(
        drop=drops.of_estimate(drop, error, n, known),
        evidence=gettext("based on lm-eval's standard error ({why})", why=no_mean),
    )


def _from_estimates(case: Case, own: Scores, error: float, sign: int, limits: Limits) -> Drop:
    """The drop from a baseline that was measured on some number of answers."""
    known = case.stated
    assert known is not None
    if own.binary:
        value = estimates.share(math.fsum(own.values), len(own.values))
    elif limits.known:
        value = estimates.bounded(own.values, limits.low, limits.high)
        # The test for FAILED is Student's if there are enough samples, the bound for PASSED is not.
        if not own.repeated and len(own.values) >= FEW:
            tested = estimates.student(own.values)
            value = (
                replace(value, upper=tested.upper)
                if sign > 0
                else replace(value, lower=tested.lower)
            )
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


def _from_samples(
    case: Case, own: Scores, baseline: float, sign: int, limits: Limits
) -> tuple[Drop, tuple[str, ...]]:
    differences = [sign * (baseline - score) for score in own.values]
    error = case.stated.error if case.stated is not None else 0.0
    within = all(0 <= value <= 1 for value in (*own.values, baseline))
    look = case.look
    if not look.last:
        if error > 0 or not judged_early(case, limits, own.answers):
            raise Unusable(gettext(LATER))
        drop = drops.of_bets(differences, limits.drops(baseline, sign))
    elif error > 0:
        drop = _from_estimates(case, own, error, sign, limits)
    elif own.repeated and within:
        drop = drops.of_means(own.answers, baseline, sign, look)
    elif own.binary:
        right = round(math.fsum(own.values))
        n = len(own.values)
        drop = (
            drops.of_share(right, n, baseline, look)
            if sign > 0
            else drops.of_share(n - right, n, 1 - baseline, look)
        )
    else:
        drop = drops.of_differences(differences, limits.drops(baseline, sign), look)
    groups = clusters(case.samples, case)
    if clustered(case, groups):
        tested = case.settings.cluster != "subject"
        drop = in_clusters(drop, differences, groups, tested, look)
    return drop, groups
