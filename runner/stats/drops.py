"""Is there a drop, and how large may it be? One answer for every kind of score.

Every `Drop` keeps two promises, each with its own side of an error of 5 %: where there is no drop,
`p` is at most 0.05 in at most 5 % of all runs; where there is one, `upper` lies below it in at most
5 %.
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
    """What n samples say: the drop in the metric's unit, a one-sided test for it, and a bound.

    `stderr` is the test's standard error, `spread` the bound's, which is larger where clusters
    count. `flips` are samples that changed, where an exact test counts them, and `step` is by how
    much: 1 for scores of 0 or 1.
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
        """The drop that the test finds with 80 % power."""
        seen = power.reach(alpha) * self.stderr
        if self.flips is not None:
            seen = max(seen, self.step * power.detectable_flips(self.flips, self.n, alpha))
        return seen

    def samples(self, margin: float, alpha: float = ALPHA) -> int:
        """Samples with which a drop of the margin is found, and none is passed, with 80 % power."""
        needed = power.samples_for_error(max(self.stderr, self.spread), self.n, margin, alpha)
        if self.flips is not None:
            share = min(margin / self.step, 1.0)
            needed = max(needed, power.samples_for_flips(self.flips, self.n, share, alpha))
        return needed


def of_flips(worse: int, better: int, n: int) -> Drop:
    """The same n samples scored 0 or 1 twice."""
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
    """`right` of n samples against a share that is taken as exact."""
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
    """The mean of n differences, positive where a sample is worse; none can be more than `span`.

    Few that are not zero are counted: the test by their signs, the bound by how many samples can
    have got worse, each by the whole span. Many are judged by Student's t, or where that is in
    doubt by the bootstrap. All that moved by the same have no spread: then the next sample may move
    otherwise, as seldom as none of n did.
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
    """A drop whose standard error is known from elsewhere."""
    p, upper = means.above_zero(drop, stderr, math.inf), means.upper(drop, stderr, math.inf)
    return Drop(n, drop, stderr, NORMAL, p, upper, stderr)


def in_clusters(
    plain: Drop, differences: Sequence[float], clusters: Sequence[Hashable], tested: bool
) -> Drop:
    """`plain` where samples come in clusters: its bound is no lower than the clustered one.

    With `tested`, samples of one cluster share their fate, and the test has to hold for clusters
    too. Student's t on clusters - 1 degrees of freedom with the error scaled by
    sqrt(clusters / (clusters - 1)), as few clusters need (Cameron & Miller, Journal of Human
    Resources 50 (2015) 317). Of a single cluster nothing is known.
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
