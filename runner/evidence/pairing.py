"""Two runs' samples, matched by what was asked: never by their place in the data set alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from runner.evidence.samples import Sample


class Reason(str, Enum):
    """Why a sample has no partner that was asked the same."""

    ONLY_FIRST = "only in first"
    ONLY_SECOND = "only in second"
    PROMPT = "prompt differs"
    IMAGES = "images differ"
    DOCUMENT = "document differs"


@dataclass(frozen=True)
class Unpaired:
    """A sample that one run alone has, or two of one document that were not asked the same."""

    first: Sample | None
    second: Sample | None
    reason: Reason


@dataclass(frozen=True)
class Pairing:
    """The samples that both runs were asked, and those that they were not."""

    pairs: tuple[tuple[Sample, Sample], ...]
    unpaired: tuple[Unpaired, ...]


Key = Callable[[Sample], Hashable]


def pair(first: Sequence[Sample], second: Sequence[Sample]) -> Pairing:
    """Match samples of equal task, filter, document, rendered prompt and image content.

    Samples that are equal in all of these are matched in their order of occurrence. What is left is
    matched for its explanation only: by document, then by place where the prompt is the same (an
    image that is decoded differently makes another document).
    """
    pairs, left, right = _matched(first, second, _asked)
    unpaired = []
    for key in (_document, _place):
        explained, left, right = _matched(left, right, key)
        unpaired += [Unpaired(one, other, _difference(one, other)) for one, other in explained]
    unpaired += [Unpaired(one, None, Reason.ONLY_FIRST) for one in left]
    unpaired += [Unpaired(None, other, Reason.ONLY_SECOND) for other in right]
    return Pairing(tuple(pairs), tuple(unpaired))


def _asked(sample: Sample) -> Hashable:
    return (*_document(sample), sample.prompt_hash, sample.image_hashes)


def _document(sample: Sample) -> tuple[str, ...]:
    return (sample.task, sample.filter, sample.doc_hash)


def _place(sample: Sample) -> Hashable:
    return (sample.task, sample.filter, sample.doc_id, sample.prompt_hash)


def _difference(one: Sample, other: Sample) -> Reason:
    if one.prompt_hash != other.prompt_hash:
        return Reason.PROMPT
    if one.image_hashes != other.image_hashes:
        return Reason.IMAGES
    return Reason.DOCUMENT


def _matched(
    first: Iterable[Sample], second: Iterable[Sample], key: Key
) -> tuple[list[tuple[Sample, Sample]], list[Sample], list[Sample]]:
    """Pairs of equal key in the first's order, and what is left of either, in its own."""
    waiting: dict[Hashable, deque[Sample]] = {}
    others = list(second)
    for sample in others:
        waiting.setdefault(key(sample), deque()).append(sample)
    pairs, left = [], []
    for sample in first:
        candidates = waiting.get(key(sample))
        if candidates:
            pairs.append((sample, candidates.popleft()))
        else:
            left.append(sample)
    unmatched = {id(sample) for candidates in waiting.values() for sample in candidates}
    return pairs, left, [sample for sample in others if id(sample) in unmatched]
