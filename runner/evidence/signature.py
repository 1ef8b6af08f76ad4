"""Where in the questions and answers two engines differ, in multiples of the noise.

A fault leaves a trace: one of the images spares questions of text only, one of the decode step
spares the first token of an answer. Everything here is a ratio to the noise of the same questions,
so that it does not depend on the model's own scale.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.evidence.listed import Listed, divergences, listed
from runner.evidence.pairing import pair
from runner.evidence.replayed import Question
from runner.evidence.samples import Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Smallest noise of a question, in nats, as of the verdict `replay`.
NEGLIGIBLE = 1e-8
# Added to both parts of a ratio, in units of the median noise, as in the verdict `replay`.
FLOOR = 1e-3


@dataclass(frozen=True)
class Trace:
    """Kullback-Leibler divergences of one question, in nats.

    `first` is that of the answer's first token, `later` the mean over the other tokens (None if
    there are none) and `every` the mean over all. `moments` are the variance of the logits, their
    covariance with their change, and the variance of the change, under the first engine's
    distribution and summed over tokens.
    """

    images: int
    first: float
    later: float | None
    every: float
    moments: tuple[float, float, float]


@dataclass(frozen=True)
class Ratio:
    """A group of questions: mean divergence over mean noise, and the geometric mean of ratios."""

    questions: int
    mean: float
    typical: float

    @property
    def larger(self) -> float:
        """The larger one; the mean shows a few damaged questions, the other one a common fault."""
        return max(self.mean, self.typical)


@dataclass(frozen=True)
class Signature:
    """The traces of all questions, as ratios to the noise. A group without questions is None.

    `text`, `image` and `images` are questions without, with one and with several images,
    `illustrated` those with any. `first` and `later` are the first and the other tokens of answers
    with more than one. `scaled` is the share of the change that one common factor on all logits
    explains, from 0 to 1.
    """

    text: Ratio | None
    image: Ratio | None
    images: Ratio | None
    illustrated: Ratio | None
    first: Ratio | None
    later: Ratio | None
    scaled: float


def traces(first: Sequence[Sample], second: Sequence[Sample]) -> dict[Question, Trace]:
    """The traces of all questions whose distributions both engines recorded."""
    found: dict[Question, Trace] = {}
    for one, other in pair(first, second).pairs:
        key = (other.task, other.doc_id)
        if key not in found and (trace := _trace(one, other)) is not None:
            found[key] = trace
    return found


def signature(own: Sequence[Trace], noise: Sequence[Trace]) -> Signature:
    """Compare the traces of a run with those of a noise run on the same questions."""
    pairs = list(zip(own, noise, strict=True))
    longer = [each for each in pairs if each[0].later is not None and each[1].later is not None]

    def of(wanted: Callable[[int], bool]) -> Ratio | None:
        return _ratio([(a.every, b.every) for a, b in pairs if wanted(a.images)])

    return Signature(
        text=of(lambda images: images == 0),
        image=of(lambda images: images == 1),
        images=of(lambda images: images > 1),
        illustrated=of(lambda images: images > 0),
        first=_ratio([(a.first, b.first) for a, b in longer]),
        later=_ratio([(a.later or 0.0, b.later or 0.0) for a, b in longer]),
        scaled=_scaled([each.moments for each in own]),
    )


def _trace(first: Sample, second: Sample) -> Trace | None:
    import numpy as np

    before = {each.repeat: each for each in first.rows or (first,)}
    rows = [(before.get(each.repeat), each) for each in second.rows or (second,)]
    found, moments = [], np.zeros(3)
    for one, other in rows:
        if one is None or not len(other.token_ids):
            return None
        if not np.array_equal(one.token_ids, other.token_ids):
            return None
        known = listed(one, other)
        if known is None:
            return None
        found.append(divergences(known))
        moments += _moments(known)
    later = [each[1:].mean() for each in found if len(each) > 1]
    return Trace(
        images=len(second.image_hashes),
        first=float(np.mean([each[0] for each in found])),
        later=float(np.mean(later)) if later else None,
        every=float(np.mean([each.mean() for each in found])),
        moments=(float(moments[0]), float(moments[1]), float(moments[2])),
    )


def _moments(known: Listed) -> NDArray[np.float64]:
    """A factor on all logits changes each of them in proportion to itself.

    Half the variance of the change is about the divergence, so tokens count as they do there.
    """
    import numpy as np

    one, other = known.one, known.partner
    both = known.both & np.isfinite(one) & np.isfinite(other)
    before, after = (np.where(both, each, 0.0) for each in (one, other))
    weights = np.where(both, np.exp(before), 0.0)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    logits, change = (
        each - (weights * each).sum(axis=1, keepdims=True) for each in (before, after - before)
    )
    products = (logits * logits, logits * change, change * change)
    return np.array([(weights * each).sum() for each in products])


def _ratio(pairs: Sequence[tuple[float, float]]) -> Ratio | None:
    if not pairs:
        return None
    levels = [max(noise, NEGLIGIBLE) for _, noise in pairs]
    level = math.fsum(levels) / len(levels)
    floor = FLOOR * statistics.median(levels)
    logs = [
        math.log((own + floor) / (noise + floor))
        for (own, _), noise in zip(pairs, levels, strict=True)
    ]
    mean = math.fsum(own for own, _ in pairs) / len(pairs) / level
    return Ratio(len(pairs), mean, math.exp(math.fsum(logs) / len(logs)))


def _scaled(moments: Sequence[tuple[float, float, float]]) -> float:
    logits, both, change = (math.fsum(column) for column in zip(*moments, strict=True))
    return both**2 / (logits * change) if logits > 0 and change > 0 else 0.0
