"""The likeliest tokens of two engines along the same answer, and how far they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.evidence.samples import Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Smaller probabilities of all unlisted tokens together count as this one: they are differences of
# numbers close to 1, which rounding decides.
REST = 1e-3


@dataclass(frozen=True)
class Listed:
    """The likeliest tokens that the first engine lists at each token of an answer.

    All arrays have the shape (tokens, listed). `one` has the first engine's log-probabilities,
    `partner` the second's for the same tokens. Where the second doesn't list a token (`both` is
    False), `partner` is the smallest that it lists, which is an upper bound (infinite if it lists
    none).
    """

    one: NDArray[np.float64]
    partner: NDArray[np.float64]
    both: NDArray[np.bool_]


def listed(first: Sample, second: Sample) -> Listed | None:
    """Join what two engines recorded along the same tokens; None if one of them recorded none."""
    import numpy as np

    tokens = len(second.token_ids)
    if not (len(first.top_ids) and len(first.top_ids) == len(second.top_ids)):
        return None
    shape = (tokens, len(second.top_ids) // tokens)
    ids, theirs = (np.asarray(each.top_ids).reshape(shape) for each in (first, second))
    one, other = (
        np.asarray(each.top_logprobs, dtype=np.float64).reshape(shape) for each in (first, second)
    )
    one = np.where(ids >= 0, one, -np.inf)
    same = (ids[:, :, None] == theirs[:, None, :]) & (ids >= 0)[:, :, None]
    both = same.any(axis=2)
    found = np.take_along_axis(other, same.argmax(axis=2), axis=1)
    smallest = np.where(np.isfinite(other) & (theirs >= 0), other, np.inf).min(axis=1)
    return Listed(one, np.where(both, found, smallest[:, None]), both)


def divergences(known: Listed) -> NDArray[np.float64]:
    """Kullback-Leibler divergence at each token, in nats.

    Tokens that only one engine lists are merged with all unlisted ones. The divergence of merged
    distributions is never larger than that of the whole ones.
    """
    import numpy as np

    p, q = (np.where(known.both, np.exp(each), 0.0) for each in (known.one, known.partner))
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = np.where(p > 0, p * (known.one - known.partner), 0.0).sum(axis=1)
        rest, others = (np.clip(1 - each.sum(axis=1), 1e-12, 1.0) for each in (p, q))
        unlisted = rest * np.log(rest / others)
    divergence: NDArray[np.float64] = np.maximum(moved + unlisted, 0.0)
    return divergence


def logits(known: Listed) -> float:
    """Mean over tokens of the variance of the differences of logits, in nats².

    The variance of the differences of log-probabilities is that of the logits: the normalising
    constant of the softmax cancels. Unlike the divergence, it hardly depends on how certain the
    model is, so the noise of all questions is similar. All tokens that the first engine doesn't
    list count as one more, with their total probability: a token outside the list that takes all of
    it moves every listed token alike. Infinite if a log-probability is not a number.
    """
    import numpy as np

    if np.isnan(known.one).any() or np.isnan(known.partner).any():
        return float("inf")
    absent = np.isneginf(known.one)  # the first engine lists fewer tokens here
    one, partner = (
        np.concatenate([each, _rest(np.where(absent, -np.inf, each))], axis=1)
        for each in (known.one, known.partner)
    )
    finite = np.isfinite(one) & (partner < np.inf)
    count = finite.sum(axis=1)
    with np.errstate(invalid="ignore"):
        moved = np.where(finite, partner - one, 0.0)
        center = moved.sum(axis=1) / count
        squares = np.where(finite, (moved - center[:, None]) ** 2, 0.0)
    return float((squares.sum(axis=1) / count).mean())


def _rest(listed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the probability of all other tokens, in a column; at least that of REST."""
    import numpy as np

    total = np.where(listed < np.inf, np.exp(np.minimum(listed, 0.0)), 0.0).sum(axis=1)
    return np.log(np.clip(1 - total, REST, 1.0))[:, None]
