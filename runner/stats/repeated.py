"""Several scored answers to each question: variances, pass@k and majority votes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import variance

from runner.stats.means import mean


def components(scores: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Variance within questions and of the questions' means.

    `scores` has one row per question with at least two scores each. The first is the mean of the
    questions' own variances; divided by the number of answers, it is the part of the second that
    more answers would remove.
    """
    within = mean([variance(own) for own in scores])
    between = variance([mean(own) for own in scores]) if len(scores) > 1 else 0.0
    return within, between


def pass_at(right: int, answers: int, k: int) -> float:
    """Probability that at least one of k answers is right, estimated without bias.

    `right` of `answers` were. Chen et al., "Evaluating Large Language Models Trained on Code",
    arXiv 2107.03374, equation 1.
    """
    return 1.0 - math.comb(answers - right, k) / math.comb(answers, k)


def majority(votes: Sequence[Hashable], scores: Sequence[float]) -> float:
    """Score of the most frequent answer (maj@k); the mean score of several that are as frequent."""
    counts = Counter(votes)
    most = max(counts.values())
    chosen = dict(zip(reversed(votes), reversed(scores), strict=True))
    return mean([chosen[vote] for vote, count in counts.items() if count == most])


def sizes(answers: int) -> list[int]:
    """Values of k for pass@k: the powers of two up to `answers`, and `answers` itself."""
    powers = [2**power for power in range(answers.bit_length()) if 2**power < answers]
    return [*powers, answers]
