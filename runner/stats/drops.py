"""Estimates, tests and bounds of a drop, for every kind of score.

Every `Drop` controls both kinds of error at 5 %: if there is no drop, `p` is at most 0.05 in at
most 5 % of all runs; if there is one, `upper` is below it in at most 5 % of all runs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from runner.stats import ALPHA, means, power, resampling, shares
from runner.stats.flips import drop_stderr, mcnemar_drop, upper_drop

MCNEMAR, BINOMIAL, T_TEST = "exact McNemar", "exact binomial", "Student's t"
SIGN_FLIP, BOOTSTRAP, NORMAL = "exact sign flip", "bootstrap-t", "normal"
CLUSTERED = "clustered t"


@dataclass(frozen=True)
class Drop:
    """The drop that n samples show, in the metric's unit, with a one-sided test and bound.

    `stderr` is the test's standard error and `spread` the bound's, which is larger if samples are
    clustered. If an exact test counts changed samples, `flips` is their number and `step` is the
    size of one change: 1 for scores of 0 or 1.
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

    def detectable(self, alpha: float = ALPHA) -> float:
        """The detectable drop: the one that the test finds with 80 % power."""
        seen = power.reach(alpha) * self.stderr
        if self.flips is not None:
            seen = max(seen, self.step * power.detectable_flips(self.flips, self.n, alpha))
        return seen

    def samples(self, margin: float, alpha: float = ALPHA) -> int:
        """Number of samples needed to find a drop of `margin`, and to pass none, at 80 % power."""
        needed = power.samples_for_error(max(self.stderr, self.spread), self.n, margin, alpha)
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
