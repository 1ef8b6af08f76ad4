"""Estimates, tests and bounds of a drop, for every kind of score.

Every `Drop` controls both kinds of error at 5 %: if there is no drop, `p` is at most 0.05 in at
most 5 % of all runs; if there is one, `upper` is below it in at most 5 % of all runs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, variance

from runner.stats import ALPHA, POWER, betting, estimates, means, power, resampling, shares
from runner.stats.estimates import Estimate
from runner.stats.flips import drop_stderr, mcnemar_drop, upper_drop

MCNEMAR, BINOMIAL, T_TEST = "exact McNemar", "exact binomial", "Student's t"
SIGN_FLIP, BOOTSTRAP, NORMAL = "exact sign flip", "bootstrap-t", "normal"
SIGN_FLIP_SAMPLED, PERMUTATION, BETTING = "sign flip", "sign flip and permutation", "betting"
CLUSTERED, BOTH_BOUNDS = "clustered t", "bounds of both values"


@dataclass(frozen=True)
class Repeats:
    """Whether more questions or more answers to each decide about a drop of question means.

    This run has `answers` to each. `sampling` is the variance of a question's difference that they
    cause, `other` the rest of its variance, and `span` the largest possible difference.
    """

    answers: int
    sampling: float
    other: float
    span: float

    def questions(self, margin: float) -> int:
        """Number of questions, with as many answers each, that decide at 80 % power."""
        variance = self.sampling + self.other
        by_error = math.ceil(variance * (self._reach / margin) ** 2)
        return max(by_error, betting.questions_needed(margin, self.span), 1)

    def answers_needed(self, n: int, margin: float) -> int | None:
        """Number of answers to each of the n questions that decide; None if no number does."""
        room = n * (margin / self._reach) ** 2 - self.other
        if room <= 0 or n < betting.questions_needed(margin, self.span):
            return None
        return max(math.ceil(self.sampling * self.answers / room), 1)

    @property
    def _reach(self) -> float:
        """Standard errors from no drop to a margin below which the bound is at 80 % power."""
        return math.sqrt(2 * math.log(betting.STAKES / ALPHA)) + NormalDist().inv_cdf(POWER)


@dataclass(frozen=True)
class Drop:
    """The drop that n samples show, in the metric's unit, with a one-sided test and bound.

    `stderr` is the test's standard error and `spread` the bound's, which is larger if samples are
    clustered. If an exact test counts changed samples, `flips` is their number and `step` is the
    size of one change: 1 for scores of 0 or 1. `repeated` is given if questions were asked several
    times. `known_error` is the part of the standard error that the other value causes, if it is a
    published one: more samples of this run do not reduce it.
    """

    n: int
    drop: float
    stderr: float
    test: str
    p: float
    upper: float
    spread: float
    flips: int | None = None
    step: float = 1.0
    repeated: Repeats | None = None
    known_error: float = 0.0

    def detectable(self, alpha: float = ALPHA) -> float:
        """The detectable drop: the one that the test finds with 80 % power."""
        seen = power.reach(alpha) * self.stderr
        if self.flips is not None:
            seen = max(seen, self.step * power.detectable_flips(self.flips, self.n, alpha))
        return seen

    def samples(self, margin: float, alpha: float = ALPHA) -> int | None:
        """Number of samples needed to find a drop of `margin`, and to pass none, at 80 % power.

        None if the error of the value that this run is compared with is too large for any number.
        """
        if self.repeated is not None:
            return self.repeated.questions(margin)
        error = max(self.stderr, self.spread)
        if self.known_error:
            room = margin**2 - (power.reach(alpha) * self.known_error) ** 2
            if room <= 0:
                return None
            error = math.sqrt(max(error**2 - self.known_error**2, 0.0))
            margin = math.sqrt(room)
        needed = power.samples_for_error(error, self.n, margin, alpha)
        if self.flips is not None:
            share = min(margin / self.step, 1.0)
            needed = max(needed, power.samples_for_flips(self.flips, self.n, share, alpha))
        return needed


def of_flips(worse: int, better: int, n: int) -> Drop:
    """The drop between two runs that scored the same n samples 0 or 1."""
    stderr = drop_stderr(worse, better, n)
    return Drop(
        n=n,
        drop=(worse - better) / n,
        stderr=stderr,
        test=MCNEMAR,
        p=mcnemar_drop(worse, better),
        upper=upper_drop(worse, better, n),
        spread=stderr,
        flips=worse + better,
    )


def of_share(right: int, n: int, known: float) -> Drop:
    """The drop of `right` of n samples against a share that is taken as exact."""
    share = known if 0 < known < 1 else right / n
    stderr = math.sqrt(share * (1 - share) / n)
    return Drop(
        n=n,
        drop=known - right / n,
        stderr=stderr,
        test=BINOMIAL,
        p=shares.at_most(right, n, known),
        upper=known - shares.lower_bound(right, n),
        spread=stderr,
    )


def of_differences(differences: Sequence[float], span: float) -> Drop:
    """The drop as the mean of n differences, positive if a sample is worse, at most `span` each.

    With few non-zero differences, the test is an exact sign-flip test, and the bound assumes that
    every sample that got worse did so by the whole span. With many, Student's t is used, or the
    bootstrap if the t approximation is doubtful. If all differences are equal, their standard error
    is 0; the bound then allows for samples that differ but occur too rarely to be among n.
    """
    n, center = len(differences), means.mean(differences)
    stderr = means.standard_error(differences)
    moved = [abs(each) for each in differences if each]
    flips, step = None, 1.0
    if len(moved) < resampling.FEW:
        test = SIGN_FLIP
        p = resampling.sign_flip_drop(differences) if moved else 1.0
        upper = shares.upper_bound(sum(each > 0 for each in differences), n) * span
        flips, step = len(moved), means.mean(moved) if moved else span
    elif stderr == 0:
        test = SIGN_FLIP
        p = 0.5**n if center > 0 else 1.0
        upper = center + shares.upper_bound(0, n) * span
    elif resampling.t_is_doubtful(differences):
        test = BOOTSTRAP
        p, upper = resampling.bootstrap(differences)
    else:
        test = T_TEST
        p = means.above_zero(center, stderr, n - 1)
        upper = means.upper(center, stderr, n - 1)
    return Drop(n, center, stderr, test, p, upper, stderr, flips, step or 1.0)


def of_question_means(
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    sign: int,
    span: float,
) -> Drop:
    """The drop between two runs that answered the same n questions, in any number of times.

    `before` and `after` have the scores of each question, of which a smaller one is worse if `sign`
    is 1. A question's difference is at most `span`. The test flips the signs of the differences,
    which are symmetric if nothing has changed and both runs have as many answers; otherwise it also
    deals each question's answers again. The bound is `betting.upper`, which holds for any
    distribution. If no question differs, the detectable drop is that of questions which change by
    the whole span.
    """
    first, second = (
        [[sign * value for value in own] for own in scores] for scores in (before, after)
    )
    pairs = list(zip(first, second, strict=True))
    differences = [means.mean(one) - means.mean(other) for one, other in pairs]
    test, p = SIGN_FLIP_SAMPLED, resampling.sign_flip_sampled(differences)
    if any(len(one) != len(other) for one, other in pairs):
        test, p = PERMUTATION, max(p, resampling.exchanged_drop(first, second))
    stderr = means.standard_error(differences)
    own, theirs = _sampling(second), _sampling(first)
    moved = any(differences)
    return Drop(
        n=len(differences),
        drop=means.mean(differences),
        stderr=stderr,
        test=test,
        p=p,
        upper=betting.upper(differences, -span, span),
        spread=stderr,
        flips=None if moved else 0,
        step=1.0 if moved else span or 1.0,
        repeated=Repeats(
            max(map(len, second)),
            own,
            max(stderr**2 * len(differences) - own - theirs, 0.0) + theirs,
            span,
        ),
    )


def of_means(scores: Sequence[Sequence[float]], known: float, sign: int) -> Drop:
    """The drop of n questions' mean scores, between 0 and 1, from a value taken as exact."""
    values = [means.mean(own) for own in scores]
    stderr = means.standard_error(values)
    at_least = [sign * (known - value) for value in values]
    low, high = (known - 1, known) if sign > 0 else (-known, 1 - known)
    own = _sampling(scores)
    return Drop(
        n=len(values),
        drop=means.mean(at_least),
        stderr=stderr,
        test=BETTING,
        p=betting.p_at_most(at_least, 0.0, low),
        upper=betting.upper(at_least, low, high),
        spread=stderr,
        repeated=Repeats(
            max(map(len, scores)), own, max(stderr**2 * len(values) - own, 0.0), high - low
        ),
    )


def of_estimates(value: Estimate, stderr: float, n: int, baseline: Estimate, error: float) -> Drop:
    """The drop of n samples' value from a baseline with an error of its own.

    Both are such that a smaller value is worse. `stderr` and `error` are their standard errors.
    """
    p, upper = estimates.drop(baseline, value)
    both = math.hypot(stderr, error)
    return Drop(
        n=n,
        drop=baseline.value - value.value,
        stderr=both,
        test=BOTH_BOUNDS,
        p=p,
        upper=upper,
        spread=both,
        known_error=error,
    )


def _sampling(scores: Sequence[Sequence[float]]) -> float:
    """Mean variance of the questions' means that comes from sampling their answers."""
    return means.mean([variance(own) / len(own) if len(own) > 1 else 0.0 for own in scores])


def of_estimate(drop: float, stderr: float, n: int) -> Drop:
    """The drop with a standard error that is known from elsewhere."""
    p, upper = means.above_zero(drop, stderr, math.inf), means.upper(drop, stderr, math.inf)
    return Drop(n, drop, stderr, NORMAL, p, upper, stderr)


def in_clusters(
    plain: Drop, differences: Sequence[float], clusters: Sequence[Hashable], tested: bool
) -> Drop:
    """`plain`, adjusted for clustered samples: its bound is at least the clustered one.

    With `tested`, the samples of a cluster are not independent, so the test must hold for clusters
    too. Student's t with clusters - 1 degrees of freedom and the error scaled by sqrt(clusters /
    (clusters - 1)), as few clusters need (Cameron & Miller, Journal of Human Resources 50 (2015)
    317). A single cluster gives no bound.
    """
    count = len(set(clusters))
    if count < 2:
        return replace(plain, upper=math.inf, p=1.0 if tested else plain.p)
    stderr = means.clustered_error(differences, clusters) * math.sqrt(count / (count - 1))
    if stderr == 0:
        return plain
    upper = means.upper(plain.drop, stderr, count - 1)
    bounded = replace(plain, upper=max(plain.upper, upper), spread=max(plain.spread, stderr))
    if not tested:
        return bounded
    return replace(
        bounded,
        test=f"{plain.test} and {CLUSTERED}",
        p=max(plain.p, means.above_zero(plain.drop, stderr, count - 1)),
        stderr=max(plain.stderr, stderr),
    )
