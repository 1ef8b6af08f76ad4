"""How far two engines' probabilities differ along the same answers, measured per question.

Both engines generated the same tokens (`verdict=replay`) or scored the same choices, so every
log-probability has a partner. Answers of ordinary runs (`verdict=numerics`) are compared up to
their first different token. Differences are averaged over an answer before questions are
compared, so that a few long answers don't outweigh all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.evidence.listed import divergences, listed, logits
from runner.evidence.samples import Sample
from runner.evidence.shifts import choice_tokens, comparable, of_answers, parts, summed, tied

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Question = tuple[str, int]
Compare = Callable[[Sample, Sample, float], "Difference | None"]


@dataclass(frozen=True)
class Difference:
    """Differences between two engines on one question, in nats, over all its tokens.

    `absolute` is the mean, `squared` the mean square and `signed` the mean of second minus first
    log-probability (the negative logarithm of the perplexity ratio). `divergence` is the mean
    Kullback-Leibler divergence of the second engine's distribution from the first's, and `logits`
    the mean variance of the differences of logits; both are None where one of the two was not
    recorded. `flips` counts tokens where the second engine would choose another token although
    neither engine was near a tie. For scored choices, `tokens` counts each choice once, and a
    difference is that of the log-likelihood divided by the choice's number of tokens
    (`shifts.of_choices`). With `summed`, that number is unknown, and differences are those of sums.
    """

    tokens: int
    absolute: float
    squared: float
    signed: float
    divergence: float | None
    logits: float | None
    flips: int
    summed: bool = False


@dataclass(frozen=True)
class Differences:
    """Differences by question, and the number of questions that could not be compared.

    `empty` questions have no tokens in the first run, so there is nothing to compare.
    """

    by_question: Mapping[Question, Difference]
    left_out: int
    empty: int = 0

    @property
    def finite(self) -> bool:
        """Whether no log-probability is infinite or not a number."""
        return all(
            math.isfinite(each.squared)
            and math.isfinite(each.divergence or 0.0)
            and math.isfinite(each.logits or 0.0)
            for each in self.by_question.values()
        )

    @property
    def summed(self) -> bool:
        """Whether differences are those of sums over an unknown number of tokens."""
        return any(each.summed for each in self.by_question.values())

    def mean(self, name: str) -> float:
        """Mean of one of the differences over questions."""
        values = [getattr(each, name) for each in self.by_question.values()]
        return math.fsum(values) / len(values)


def differences(
    pairs: Sequence[tuple[Sample, Sample]], near_tie: float, compare: Compare | None = None
) -> Differences:
    """Compare all pairs of samples; filters and repeats of a question are merged.

    `near_tie` is the lead over the next token, in nats, that rounding may overcome. `compare`
    compares two answers: `of_samples` by default, or `of_ordinary`.
    """
    compare = compare or of_samples
    found: dict[Question, Difference | None] = {}
    empty = set()
    for first, second in pairs:
        key = (second.task, second.doc_id)
        if _is_empty(first):
            empty.add(key)
        elif key not in found:  # else the same answers under another filter
            found[key] = _of_question(first, second, near_tie, compare)
    known = {key: each for key, each in found.items() if each is not None}
    return Differences(known, len(found) - len(known), len(empty))


def _is_empty(question: Sample) -> bool:
    rows = question.rows or (question,)
    return not any(len(row.token_ids) or row.choice_logprobs for row in rows)


def _of_question(
    first: Sample, second: Sample, near_tie: float, compare: Compare
) -> Difference | None:
    before = {each.repeat: each for each in first.rows or (first,)}
    found = [
        compare(before[each.repeat], each, near_tie) if each.repeat in before else None
        for each in second.rows or (second,)
    ]
    known = [each for each in found if each is not None]
    return _merged(known) if len(known) == len(found) else None


def of_samples(first: Sample, second: Sample, near_tie: float) -> Difference | None:
    """The difference between two answers; None if their tokens differ or there are none."""
    import numpy as np

    if first.choice_logprobs or second.choice_logprobs:
        return _of_choices(first, second, near_tie)
    if not len(second.token_ids) or not np.array_equal(first.token_ids, second.token_ids):
        return None
    if not comparable(first, second):  # a truncated prompt, or another tokenizer
        return None
    one, other = (np.asarray(each.logprobs, dtype=np.float64) for each in (first, second))
    if not len(one) == len(other) == len(second.token_ids):
        return None
    leads, theirs = (np.asarray(each.margins, dtype=np.float64) for each in (first, second))
    flips = int(((leads >= near_tie) & (theirs <= -near_tie)).sum())
    known = listed(first, second)
    divergence = None if known is None else float(divergences(known).mean())
    moved = None if known is None else logits(known)
    return _difference(one, other, divergence, moved, flips)


def of_ordinary(first: Sample, second: Sample, near_tie: float) -> Difference | None:
    """The difference between two answers that both engines chose; None if it is not known.

    It ends at the first different token (`shifts.of_tokens`), where its sign is unknown.
    """
    moved = of_answers(first, second)
    if not len(moved) or not comparable(first, second):
        return None
    return Difference(
        tokens=len(moved),
        absolute=float(moved.mean()),
        squared=float((moved**2).mean()),
        signed=math.nan,
        divergence=None,
        logits=None,
        flips=int(parts(first, second) and not tied(first, second, near_tie)),
        summed=summed(first, second),
    )


def _of_choices(first: Sample, second: Sample, near_tie: float) -> Difference | None:
    """Choices are a distribution of their own: which one is right, given that one is.

    That distribution and its flips follow from the sums, the other differences are per token.
    """
    import numpy as np
    from scipy.special import log_softmax

    if len(first.choice_logprobs) != len(second.choice_logprobs) or not comparable(first, second):
        return None
    one, other = (np.asarray(each.choice_logprobs) for each in (first, second))
    divergence, flips = None, 0
    if len(one) > 1 and np.isfinite(one).all() and np.isfinite(other).all():
        before, after = log_softmax(one), log_softmax(other)
        divergence = float((np.exp(before) * (before - after)).sum())
        best, now = int(one.argmax()), int(other.argmax())
        leads = one[best] - one[now], other[now] - other[best]
        flips = int(best != now and min(leads) >= near_tie)
    if summed(first, second):
        return replace(_difference(one, other, divergence, None, flips), summed=True)
    tokens = np.asarray(choice_tokens(first, second))
    return _difference(one / tokens, other / tokens, divergence, None, flips)


def _difference(
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    divergence: float | None,
    of_logits: float | None,
    flips: int,
) -> Difference:
    import numpy as np

    with np.errstate(invalid="ignore"):
        moved = np.where(one == other, 0.0, other - one)
    moved = np.where(np.isnan(moved), np.inf, moved)
    return Difference(
        tokens=len(moved),
        absolute=float(np.abs(moved).mean()),
        squared=float((moved**2).mean()),
        signed=float(moved.mean()) if np.isfinite(moved).all() else math.nan,
        divergence=divergence,
        logits=of_logits,
        flips=flips,
    )


def _merged(answers: Sequence[Difference]) -> Difference:
    """Several answers to a question: the mean over answers."""
    if len(answers) == 1:
        return answers[0]

    def mean(values: Sequence[float]) -> float:
        return math.fsum(values) / len(values)

    divergences = [each.divergence for each in answers if each.divergence is not None]
    logits = [each.logits for each in answers if each.logits is not None]
    return Difference(
        tokens=sum(each.tokens for each in answers),
        absolute=mean([each.absolute for each in answers]),
        squared=mean([each.squared for each in answers]),
        signed=mean([each.signed for each in answers]),
        divergence=mean(divergences) if len(divergences) == len(answers) else None,
        logits=mean(logits) if len(logits) == len(answers) else None,
        flips=sum(each.flips for each in answers),
        summed=any(each.summed for each in answers),
    )
