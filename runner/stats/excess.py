"""Whether measured differences exceed a multiple of the noise, question by question."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from runner.look import ONLY, Look
from runner.stats import means, resampling
from runner.stats.outliers import Outliers, Unasked, outliers

# One-sided level of "exceeds". A pass has the level of all other rules.
LEVEL = 0.01
# Added to both parts of a question's ratio, in units of the median noise: a question that both
# engines answer with certainty would otherwise have any ratio. The mean would let a few questions
# that the reference run itself answered wrongly hide a fault of all others.
FLOOR = 1e-3
# Share of the level of the test of outliers. It counts questions, so it needs it more than the
# others, whose p values soon are far below any level.
OF_OUTLIERS = 0.9
# Smallest p of the usual number of resamples.
SMALLEST = 1 / (1 + resampling.RESAMPLES)
# Expected number of resamples that reach a level if more are drawn for it.
FINE = 10


@dataclass(frozen=True)
class Excess:
    """How the differences of n questions compare with `factor` times the noise.

    `ratio` is the mean difference divided by the mean noise, which a few damaged questions can
    raise, and `typical` the geometric mean of the questions' own ratios, which they can't. `upper`
    is the larger of their one-sided 95 % upper bounds. `outliers` are the questions that stand out,
    None if they were not counted. `p` is the one-sided p value of no test being above `factor`,
    corrected for the number of tests. `questions` is the number from which `upper` would be below
    `factor` at the same ratios; None if it is already, or if a ratio is not below.
    """

    ratio: float
    typical: float
    upper: float
    p: float
    factor: float
    questions: int | None
    outliers: Outliers | None = None

    @property
    def exceeds(self) -> bool:
        """Whether a ratio is above the factor, or too many questions stand out, at LEVEL."""
        return self.p <= LEVEL

    @property
    def within(self) -> bool:
        """Whether both ratios are surely below the factor, and not more questions stand out."""
        apart = self.outliers is not None and self.outliers.more
        return self.upper < self.factor and not apart


def excess(
    differences: Sequence[float],
    noise: Sequence[float],
    factor: float,
    runs: Sequence[Sequence[float]] = (),
    look: Look = ONLY,
    bars: Sequence[Sequence[float]] = (),
    usual: Sequence[float] = (),
    unasked: Unasked | None = None,
) -> Excess:
    """Compare differences with the noise on the same questions; the noise must not be 0 everywhere.

    Two tests share the level. One is of the mean of difference - factor x noise, as Student's t, or
    the bootstrap-t where that is doubtful, and in any case at least as strict as flipping signs.
    The other is Student's t of log(difference / noise): one question with a huge difference makes
    the mean's error too large for a fault that all questions show. With `runs`, the noise of each
    noise run (`bars`, `usual` and `unasked`: see `outliers`), a third test gets most of the level:
    whether more questions stand out than in these runs. It finds faults that damage a few
    questions, to very different degrees. All have the share of the level that this `look` at the
    run may use. `upper` has the whole level, because only the last look can pass.
    """
    n, level = len(differences), means.mean(noise)
    values = [each - factor * own for each, own in zip(differences, noise, strict=True)]
    floor = FLOOR * statistics.median(each for each in noise if each > 0)
    logs = [
        math.log((each + floor) / (own + floor) / factor)
        for each, own in zip(differences, noise, strict=True)
    ]
    rest = 1 - OF_OUTLIERS if runs else 1.0
    share = LEVEL * look.share * rest / 2
    p_mean, upper_mean = _tested(values, share)
    p_typical, upper_typical = _above_zero(logs)
    centers = means.mean(values) / level, means.mean(logs)
    uppers = upper_mean / level, upper_typical
    p = min(1.0, 2 * min(p_mean, p_typical))
    apart = outliers(differences, runs, factor, bars, usual, unasked) if runs else None
    weighted = p if apart is None else min(p / rest, apart.p / OF_OUTLIERS)
    return Excess(
        ratio=means.mean(differences) / level,
        typical=factor * math.exp(centers[1]),
        upper=max(factor + uppers[0], factor * math.exp(uppers[1])),
        p=min(1.0, weighted / look.share),
        factor=factor,
        questions=_needed(n, centers, uppers),
        outliers=apart,
    )


def filled(noise: Sequence[float], negligible: float) -> list[float]:
    """The noise, in which questions with at most `negligible` have the median of the others.

    Correct stacks of low precision repeat some questions exactly, which says nothing of how much
    another correct stack may differ there.
    """
    differing = [each for each in noise if each > negligible]
    usual = statistics.median(differing) if differing else negligible
    return [each if each > negligible else usual for each in noise]


def _tested(values: Sequence[float], level: float) -> tuple[float, float]:
    """One-sided p of a mean of 0 or less, and the mean's upper bound.

    If no resample is as extreme, p is only as small as their number allows. Where `level` is even
    smaller, as at an early look, more are drawn. The level still holds: a smaller p takes none of
    the first resamples, and as few of all of them as without this.
    """
    many = math.ceil(FINE / level)
    if means.standard_error(values) == 0 or not resampling.t_is_doubtful(values):
        p, upper = _above_zero(values)
    else:
        p, upper = resampling.bootstrap(values)
        if level < p <= SMALLEST:
            p, _ = resampling.bootstrap(values, resamples=many)
    if p > LEVEL:
        return p, upper
    flipped = resampling.sign_flip_sampled(values)
    if level < flipped <= SMALLEST:
        flipped = resampling.sign_flip_sampled(values, many)
    return max(p, flipped), upper


def _above_zero(values: Sequence[float]) -> tuple[float, float]:
    """As `_tested`, by Student's t. A single value tells nothing."""
    if len(values) < 2:
        return 1.0, math.inf
    center, stderr = means.mean(values), means.standard_error(values)
    if stderr == 0:
        return (0.0 if center > 0 else 1.0), center
    freedom = len(values) - 1
    return means.above_zero(center, stderr, freedom), means.upper(center, stderr, freedom)


def _needed(n: int, centers: Sequence[float], uppers: Sequence[float]) -> int | None:
    """Number of questions from which all bounds are below 0; errors shrink as 1/sqrt(n)."""
    if max(centers) >= 0 or max(uppers) < 0:
        return None
    pairs = zip(centers, uppers, strict=True)
    return math.ceil(n * max((upper - center) / -center for center, upper in pairs) ** 2)
