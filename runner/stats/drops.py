"""Estimates, tests and bounds of a drop, for every kind of score.

Every `Drop` controls both kinds of error at 5 %: if there is no drop, `p` is at most 0.05 in at
most 5 % of all runs; if there is one, `upper` is below it in at most 5 % of all runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, variance

from runner.language import N_
from runner.look import ONLY, Look
from runner.stats import ALPHA, POWER, betting, estimates, means, needed, power, resampling, shares
from runner.stats.estimates import Estimate
from runner.stats.flips import ENOUGH, drop_stderr, mcnemar_drop, upper_drop
from runner.stats.limits import Limits
from runner.stats.needed import Chances

MCNEMAR, BINOMIAL, T_TEST = N_("exact McNemar"), N_("exact binomial"), N_("Student's t")
SIGN_FLIP, BOOTSTRAP, NORMAL = N_("exact sign flip"), N_("bootstrap-t"), N_("normal")
SIGN_FLIP_SAMPLED, PERMUTATION = N_("sign flip"), N_("sign flip and permutation")
BETTING, BOTH_BOUNDS = N_("betting"), N_("bounds of both values")


@dataclass(frozen=True)
class Repeats:
    """Whether more answers to each question decide about a drop of question means.

    This run has `answers` to each. `sampling` is the variance of a question's difference that they
    cause, `other` the rest of its variance, and `most` the largest possible difference.
    """

    answers: int
    sampling: float
    other: float
    most: float

    def answers_needed(self, n: int, margin: float) -> int | None:
        """Number of answers to each of the n questions with which a run without a drop passes.

        At 80 % power; None if no number is enough.
        """
        left = n - betting.questions_needed(margin, self.most)
        reach = betting.reach() + NormalDist().inv_cdf(POWER)
        room = left * (margin / reach) ** 2 - self.other
        if left <= 0 or room <= 0:
            return None
        return max(math.ceil(self.sampling * self.answers / room), self.answers + 1)


@dataclass(frozen=True)
class Drop:
    """The drop that n samples show, in the metric's unit, with a one-sided test and bound.

    `stderr` is the test's standard error and `spread` the bound's, which is larger if samples are
    clustered. If an exact test counts changed samples, `flips` is their number and `step` is the
    size of one change: 1 for scores of 0 or 1. `repeated` is given if questions were asked several
    times. `chances` tell how many samples would decide. `known_error` is the part of the standard
    error that the other value causes, if it is a published one: more samples of this run do not
    reduce it. `share` is the share of the significance level that this look at the run may use;
    `p` and `upper` allow for it.
    """

    n: int
    drop: float
    stderr: float
    test: str
    p: float
    upper: float
    spread: float
    chances: Chances
    flips: int | None = None
    step: float = 1.0
    repeated: Repeats | None = None
    known_error: float = 0.0
    share: float = 1.0

    def detectable(self, alpha: float = ALPHA) -> float:
        """The detectable drop: the one that the test finds with 80 % power."""
        alpha *= self.share
        seen = power.reach(alpha) * self.stderr
        if self.flips is not None:
            seen = max(seen, self.step * power.detectable_flips(self.flips, self.n, alpha))
        return seen

    def to_pass(self, margin: float) -> int | None:
        """Return the number of samples, more than n, with which a run without a drop passes.

        At 80 % power; None if no number is enough.
        """
        return self.chances.to_pass(self.n, margin)

    def to_fail(self, margin: float, alpha: float = ALPHA) -> int | None:
        """Return the number of samples, more than n, with which a drop of twice the margin fails.

        At 80 % power; None if no number is enough.
        """
        return self.chances.to_fail(self.n, margin, alpha)


def of_bets(differences: Sequence[float], limits: Limits) -> Drop:
    """The drop as the mean of n differences within known `limits`, at any look but the last.

    Test and bound hold at all looks together, with half of the level (`runner.stats.betting`); the
    other half is left for the last one.
    """
    n, center, stderr = len(differences), means.mean(differences), means.standard_error(differences)
    half = 0.5
    deviation = math.hypot(stderr * math.sqrt(n), limits.high / math.sqrt(n))
    return Drop(
        n=n,
        drop=center,
        stderr=stderr,
        test=BETTING,
        p=min(1.0, betting.p_at_most(differences, 0.0, limits.low, betting.EARLY) / half),
        upper=betting.upper(differences, limits.low, limits.high, ALPHA * half, betting.EARLY),
        spread=stderr,
        chances=needed.of_bets(deviation, limits.high),
        share=half,
    )


def of_flips(worse: int, better: int, n: int, look: Look = ONLY) -> Drop:
    """The drop between two runs that scored the same n samples 0 or 1.

    With too few samples for `upper_drop`, the bound is at least `betting.upper`.
    """
    level = ALPHA * look.share
    stderr, upper = drop_stderr(worse, better, n), upper_drop(worse, better, n, level)
    if n < ENOUGH:
        differences = [1.0] * worse + [-1.0] * better + [0.0] * (n - worse - better)
        upper = max(upper, betting.upper(differences, -1.0, 1.0, level))
    return Drop(
        n=n,
        drop=(worse - better) / n,
        stderr=stderr,
        test=MCNEMAR,
        p=min(1.0, mcnemar_drop(worse, better) / look.share),
        upper=upper,
        spread=stderr,
        chances=needed.of_flips((worse + better) / n),
        flips=worse + better,
        share=look.share,
    )


def of_share(right: int, n: int, known: float, look: Look = ONLY) -> Drop:
    """The drop of `right` of n samples against a share that is taken as exact."""
    share = known if 0 < known < 1 else right / n
    stderr = math.sqrt(share * (1 - share) / n)
    return Drop(
        n=n,
        drop=known - right / n,
        stderr=stderr,
        test=BINOMIAL,
        p=min(1.0, shares.at_most(right, n, known) / look.share),
        upper=known - shares.lower_bound(right, n, ALPHA * look.share),
        spread=stderr,
        chances=needed.of_share(share),
        share=look.share,
    )


def of_differences(differences: Sequence[float], limits: Limits, look: Look = ONLY) -> Drop:
    """The drop as the mean of n differences within `limits`, positive if a sample is worse.

    With few non-zero differences, the test is an exact sign-flip test. With many, Student's t is
    used, or the bootstrap if the t approximation is doubtful.

    If the limits are known, the bound is `betting.upper`: t and bootstrap bounds are too low if
    most samples hardly change and a few lose everything. Otherwise they are all there is, and so is
    the assumption that no sample loses more than the largest difference between two seen scores:
    with few non-zero differences, the bound takes every sample that got worse for such a loss.
    """
    n, center = len(differences), means.mean(differences)
    stderr = means.standard_error(differences)
    moved = [abs(each) for each in differences if each]
    flips, step = None, 1.0
    if len(moved) < resampling.FEW:
        test = SIGN_FLIP
        p = resampling.sign_flip_drop(differences) if moved else 1.0
        upper = shares.upper_bound(sum(each > 0 for each in differences), n) * limits.high
        flips, step = len(moved), means.mean(moved) if moved else limits.high
    elif stderr == 0:
        test = SIGN_FLIP
        p = 0.5**n if center > 0 else 1.0
        upper = center + shares.upper_bound(0, n) * limits.span
    elif resampling.t_is_doubtful(differences):
        test = BOOTSTRAP
        p, upper = resampling.bootstrap(differences)
    else:
        test = T_TEST
        p = means.above_zero(center, stderr, n - 1)
        upper = means.upper(center, stderr, n - 1)
    # A rare loss may be missing from the samples: as if one more had the largest.
    deviation = math.hypot(stderr * math.sqrt(n), limits.high / math.sqrt(n))
    chances = needed.of_losses(deviation, limits.high)
    if limits.known:
        upper = betting.upper(differences, limits.low, limits.high, ALPHA * look.share)
        chances = replace(chances, passes=needed.of_bets(deviation, limits.high).passes)
    if flips is not None:
        chances = chances.and_finds(needed.of_flips(flips / n, step or 1.0))
    return Drop(
        n=n,
        drop=center,
        stderr=stderr,
        test=test,
        p=min(1.0, p / look.share),
        upper=upper,
        spread=stderr,
        chances=chances,
        flips=flips,
        step=step or 1.0,
        share=look.share,
    )


def of_question_means(
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    sign: int,
    span: float,
    look: Look = ONLY,
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
    variance_left = max(stderr**2 * len(differences) - own - theirs, 0.0) + theirs
    deviation = math.sqrt(own + variance_left)
    return Drop(
        n=len(differences),
        drop=means.mean(differences),
        stderr=stderr,
        test=test,
        p=min(1.0, p / look.share),
        upper=betting.upper(differences, -span, span, ALPHA * look.share),
        spread=stderr,
        chances=replace(needed.of_mean(deviation), passes=needed.of_bets(deviation, span).passes),
        flips=None if moved else 0,
        step=1.0 if moved else span or 1.0,
        repeated=Repeats(max(map(len, second)), own, variance_left, span),
        share=look.share,
    )


def of_means(scores: Sequence[Sequence[float]], known: float, sign: int, look: Look = ONLY) -> Drop:
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
        p=min(1.0, betting.p_at_most(at_least, 0.0, low) / look.share),
        upper=betting.upper(at_least, low, high, ALPHA * look.share),
        spread=stderr,
        chances=needed.of_bets(stderr * math.sqrt(len(values)), high),
        repeated=Repeats(max(map(len, scores)), own, max(stderr**2 * len(values) - own, 0.0), high),
        share=look.share,
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
        chances=needed.of_mean(stderr * math.sqrt(n), error),
        known_error=error,
    )


def _sampling(scores: Sequence[Sequence[float]]) -> float:
    """Mean variance of the questions' means that comes from sampling their answers."""
    return means.mean([variance(own) / len(own) if len(own) > 1 else 0.0 for own in scores])


def of_estimate(drop: float, stderr: float, n: int, known_error: float = 0.0) -> Drop:
    """The drop with a standard error that is known from elsewhere.

    `known_error` is the standard error of the value that this run is compared with.
    """
    both = math.hypot(stderr, known_error)
    p, upper = means.above_zero(drop, both, math.inf), means.upper(drop, both, math.inf)
    chances = needed.of_mean(stderr * math.sqrt(n), known_error)
    return Drop(n, drop, both, NORMAL, p, upper, both, chances, known_error=known_error)
