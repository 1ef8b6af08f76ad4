"""Two ways to serve a model, asked the same questions: does accuracy differ? Pure statistics.

A question is the unit: where several pairs of points stand for the two ways, its differences are
averaged first (their noise is shared, so the pairs are no independent evidence).

Sources: McNemar 1947 for the exact test of 0/1 scores; Fisher's sign-flip test and Student's paired
t for others; Agresti & Min, "Simple improved confidence intervals for comparing matched
proportions", Statistics in Medicine 24 (2005) 729; Holm 1979; Miller, "Adding Error Bars to Evals",
arXiv 2411.00640, for pairing, clustering by question and power.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from runner.sweep.answers import Answers

ALPHA, POWER = 0.05, 0.8
MCNEMAR, SIGN_FLIP, T_TEST = "exact McNemar", "exact sign-flip", "paired t"
# With fewer questions that differ, Student's t raises more false alarms than it says (4 changes to
# one side have p = 0.046 by it, and happen by chance in 1 of 8); then all 2^n signs are counted.
FEW = 14


@dataclass(frozen=True)
class Effect:
    """What `n` questions say about one value of an axis against another.

    `difference` is the mean difference in score, `interval` its 95 % confidence interval; `up` and
    `down` are questions whose score rose or fell; `responses_differ` are questions that were
    answered differently at all, right or wrong; `unpaired` are questions that only one side was
    asked. `smallest_step` is the least by which a question's score moved. `share` says that scores
    lie between 0 and 1.
    """

    pairs: int
    n: int
    unpaired: int
    difference: float
    stderr: float
    interval: tuple[float, float] | None
    up: int
    down: int
    responses_differ: int
    test: str
    p: float
    smallest_step: float
    share: bool

    @property
    def identical(self) -> bool:
        """Every question was answered the same, to the letter."""
        return self.responses_differ == self.up == self.down == 0

    def detectable(self, comparisons: int = 1) -> float:
        """The difference that would have been found with 80 % power.

        Miller's sample-size formula (power analysis in arXiv 2411.00640) solved for the difference:
        (z of 1 - alpha/2 + z of power) x SE. The alpha is that of Holm's first step, and no
        difference below what an exact test can see at all is promised: 2 * 0.5^k <= alpha needs
        k questions that move to the same side.
        """
        alpha = ALPHA / comparisons
        normal = NormalDist()
        questions = math.ceil(1 - math.log2(alpha))
        floor = questions * self.smallest_step / self.n
        return max((normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(POWER)) * self.stderr, floor)


def effect(pairs: Sequence[tuple[Answers, Answers]]) -> Effect | None:
    """Second against first of each pair; None where fewer than two questions were asked of both."""
    sums: dict[str, float] = {}
    counts: Counter[str] = Counter()
    asked: set[str] = set()
    changed: set[str] = set()
    binary = share = True
    for first, second in pairs:
        asked |= first.keys() | second.keys()
        for question in first.keys() & second.keys():
            before, after = first[question], second[question]
            sums[question] = sums.get(question, 0.0) + (after.score - before.score)
            counts[question] += 1
            if before.responses != after.responses:
                changed.add(question)
            binary = binary and before.score in (0, 1) and after.score in (0, 1)
            share = share and 0 <= before.score <= 1 and 0 <= after.score <= 1
    differences = [sums[question] / counts[question] for question in sorted(sums)]
    n = len(differences)
    if n < 2:
        return None
    up, down = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    if binary and max(counts.values()) == 1:
        test, p = MCNEMAR, mcnemar(down, up)
        interval: tuple[float, float] | None
        stderr, interval = matched_proportions(down, up, n)
    else:
        test = SIGN_FLIP if up + down < FEW else T_TEST
        p = sign_flip(differences) if test == SIGN_FLIP else _t_test(differences)
        stderr, interval = _t_interval(differences)
    return Effect(
        pairs=len(pairs),
        n=n,
        unpaired=len(asked) - n,
        difference=math.fsum(differences) / n,
        stderr=stderr,
        interval=interval,
        up=up,
        down=down,
        responses_differ=len(changed),
        test=test,
        p=p,
        smallest_step=min((abs(d) for d in differences if d), default=1.0 if binary else 0.0),
        share=share,
    )


def mcnemar(worse: int, better: int) -> float:
    """Two-sided: under no effect, each change is as likely one way as the other."""
    from scipy.stats import binomtest

    return float(binomtest(worse, worse + better).pvalue) if worse + better else 1.0


def matched_proportions(worse: int, better: int, n: int) -> tuple[float, tuple[float, float]]:
    """Standard error and 95 % interval of (better - worse) / n: Agresti & Min's "Wald+2".

    Half a sample is added to each of the four cells, so that no changes at all still leave some
    width; Wald's own interval would have none.
    """
    center = (better - worse) / (n + 2)
    stderr = math.sqrt((worse + better + 1) - (better - worse) ** 2 / (n + 2)) / (n + 2)
    half = NormalDist().inv_cdf(1 - ALPHA / 2) * stderr
    return stderr, (max(center - half, -1.0), min(center + half, 1.0))


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided: the share of all ways to sign the differences whose sum is as far from zero."""
    import numpy as np

    moved = np.array([abs(d) for d in differences if d])
    ways = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
    sums = np.abs((2 * ways - 1) @ moved)
    return float(np.mean(sums >= abs(math.fsum(differences)) - 1e-9))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: the chance of any false alarm among all stays below alpha."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _t_test(differences: Sequence[float]) -> float:
    if len(set(differences)) == 1:  # no spread, no t: every question moved by the same
        return mcnemar(0, len(differences))
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0).pvalue)


def _t_interval(differences: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Standard error and Student's 95 % interval of the mean; no interval without spread."""
    n = len(differences)
    mean = math.fsum(differences) / n
    stderr = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n * (n - 1)))
    if stderr == 0:
        return 0.0, None
    from scipy.stats import t

    half = float(t.ppf(1 - ALPHA / 2, n - 1)) * stderr
    return stderr, (mean - half, mean + half)
