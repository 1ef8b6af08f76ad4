"""Operating characteristic of an accuracy gate: how often it passes a stack of a given accuracy.

The answers are modelled as independent, each right with the probability `accuracy`, so that the
number of right answers is binomial. This is exact for questions that are drawn at random. For a
fixed set of questions of unequal difficulty, asked once or several times each, it is the worst
case: the variance is the sum of p (1 - p) over the answers, which is largest if all p are equal.
More precisely (Hoeffding, Annals of Mathematical Statistics 27 (1956) 713), a gate passes a stack
at least as often as computed if the stack's expected number of right answers lies between those
that pass, and at most as often if it lies outside by an answer or more.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """The numbers of right answers with which a gate passes.

    There are `samples` answers for each of `questions`. With the numbers in `undecided`, the gate
    neither passes nor fails.
    """

    questions: int
    samples: int
    passing: range
    undecided: range = range(0)

    @property
    def answers(self) -> int:
        """Number of answers in a run."""
        return self.questions * self.samples

    def passes(self, accuracy: float) -> float:
        """Return the share of runs in which a stack of this accuracy passes."""
        return _within(self.passing, self.answers, accuracy)

    def fails(self, accuracy: float) -> float:
        """Return the share of runs in which a stack of this accuracy fails."""
        decided = self.passes(accuracy) + _within(self.undecided, self.answers, accuracy)
        return max(1.0 - decided, 0.0)

    def fails_measured(self, share: float, answers: float) -> float:
        """Return the share of runs in which a stack fails whose accuracy is itself an estimate.

        It is known from a run with `answers` answers, of which `share` were right. Integrates over
        the accuracy's distribution, Beta(right + 1/2, wrong + 1/2): Jeffreys' prior.
        """
        right, wrong = share * answers + 0.5, (1 - share) * answers + 0.5
        decided = sum(
            _within_measured(counts, self.answers, right, wrong)
            for counts in (self.passing, self.undecided)
        )
        return max(1.0 - decided, 0.0)


def within(
    questions: int, samples: int, low: float, high: float, digits: int, unit: float = 1.0
) -> Gate:
    """Return the gate that passes scores from `low` to `high`, both included.

    The score is the share of right answers times `unit`, rounded to `digits` decimal places.
    """
    answers = questions * samples

    def score(right: int) -> float:
        return round(unit * right / answers, digits)

    counts = range(answers + 1)
    first, last = bisect_left(counts, low, key=score), bisect_right(counts, high, key=score)
    return Gate(questions, samples, range(first, max(first, last)))


def _within(counts: range, answers: int, accuracy: float) -> float:
    """Probability that the number of right answers is one of `counts`."""
    if not counts:
        return 0.0
    if accuracy <= 0 or accuracy >= 1:  # where bdtr is not a number for some counts
        return float((answers if accuracy >= 1 else 0) in counts)
    from scipy.special import bdtr  # not scipy.stats, whose import takes three times as long

    below = bdtr(counts.start - 1, answers, accuracy) if counts.start else 0.0
    return float(bdtr(counts.stop - 1, answers, accuracy) - below)


def _within_measured(counts: range, answers: int, right: float, wrong: float) -> float:
    """The same if the accuracy is distributed as Beta(right, wrong): the beta-binomial."""
    import numpy as np
    from scipy.special import betaln, gammaln

    number = np.arange(counts.start, counts.stop)
    chosen = gammaln(answers + 1) - gammaln(number + 1) - gammaln(answers - number + 1)
    log = chosen + betaln(number + right, answers - number + wrong) - betaln(right, wrong)
    return math.fsum(np.exp(log).tolist())
