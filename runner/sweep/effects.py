"""Statistics of the score difference between two settings on the same questions.

A question is the unit: where several pairs of points stand for the two ways, its differences are
averaged first (their noise is shared, so the pairs are no independent evidence): Miller, "Adding
Error Bars to Evals", arXiv 2411.00640.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from runner.language import N_
from runner.stats import ALPHA, POWER
from runner.stats.flips import matched_proportions, mcnemar
from runner.stats.means import t_interval, t_test
from runner.stats.resampling import FEW, sign_flip
from runner.sweep.answers import Answers

MCNEMAR, SIGN_FLIP, T_TEST = N_("exact McNemar"), N_("exact sign-flip"), N_("paired t")


@dataclass(frozen=True)
class Effect:
    """The effect of one value of an axis compared with another, measured on `n` questions.

    `difference` is the mean difference in score, `interval` its 95 % confidence interval; `up` and
    `down` are questions whose score rose or fell; `unpaired` are questions that only one side was
    asked. `answers_differ` are questions with other answers, right or wrong. If these are sampled
    with other seeds, they differ by chance: such questions count as `drawn` instead. There are
    `answers` on each side, several to a question if it was `repeated`; `seeded` says that some are
    sampled with equal seeds. `smallest_step` is the least by which a question's score moved.
    `share` says that scores lie between 0 and 1.
    """

    pairs: int
    n: int
    unpaired: int
    difference: float
    stderr: float
    interval: tuple[float, float] | None
    up: int
    down: int
    answers_differ: int
    test: str
    p: float
    smallest_step: float
    share: bool
    drawn: int
    answers: int
    repeated: bool
    seeded: bool

    @property
    def identical(self) -> bool:
        """Return whether every question has exactly the same answers or choices."""
        return self.answers_differ == self.drawn == self.up == self.down == 0

    def changes(self, higher_is_better: bool) -> tuple[int, int]:
        """Return how many questions were answered better, and how many worse."""
        return (self.up, self.down) if higher_is_better else (self.down, self.up)

    def detectable(self, comparisons: int = 1) -> float:
        """Return the difference that is detected with 80 % power.

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
    """Compare the second with the first of each pair; None without shared questions."""
    sums: dict[str, float] = {}
    counts: Counter[str] = Counter()
    asked: set[str] = set()
    changed: set[str] = set()
    drawn: set[str] = set()
    samples: Counter[str] = Counter()
    binary = share = True
    seeded = False
    for first, second in pairs:
        asked |= first.keys() | second.keys()
        for question in first.keys() & second.keys():
            before, after = first[question], second[question]
            sums[question] = sums.get(question, 0.0) + (after.score - before.score)
            counts[question] += 1
            samples[question] = max(samples[question], before.samples, after.samples)
            if before.digest != after.digest:
                (changed if before.drawn_as(after) else drawn).add(question)
            seeded = seeded or bool(before.draw and before.drawn_as(after))
            binary = binary and before.score in (0, 1) and after.score in (0, 1)
            share = share and 0 <= before.score <= 1 and 0 <= after.score <= 1
    differences = [sums[question] / counts[question] for question in sorted(sums)]
    n = len(differences)
    if not n:
        return None
    up, down = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    most = max(samples.values())
    binary = binary and most == 1
    if binary and max(counts.values()) == 1:
        test, p = MCNEMAR, mcnemar(down, up)
        interval: tuple[float, float] | None
        stderr, interval = matched_proportions(down, up, n)
    else:
        test = SIGN_FLIP if up + down < FEW else T_TEST
        p = sign_flip(differences) if test == SIGN_FLIP else _moved(differences)
        stderr, interval = t_interval(differences)
    return Effect(
        pairs=len(pairs),
        n=n,
        unpaired=len(asked) - n,
        difference=math.fsum(differences) / n,
        stderr=stderr,
        interval=interval,
        up=up,
        down=down,
        answers_differ=len(changed),
        test=test,
        p=p,
        smallest_step=min((abs(d) for d in differences if d), default=1.0 if share else 0.0),
        share=share,
        drawn=len(drawn - changed),
        answers=samples.total(),
        repeated=most > 1,
        seeded=seeded,
    )


def _moved(differences: Sequence[float]) -> float:
    """Student's t; without spread there is none, and every question moved by the same."""
    if len(set(differences)) == 1:
        return mcnemar(0, len(differences))
    return t_test(differences)
