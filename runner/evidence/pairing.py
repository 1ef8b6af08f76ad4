"""Pairs two runs' samples by what was asked, never only by their position in the data set."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from runner.evidence.questions import merged
from runner.evidence.samples import Sample


class Reason(str, Enum):
    """The reason why a sample has no partner with the same prompt."""

    ONLY_FIRST = "only in first"
    ONLY_SECOND = "only in second"
    PROMPT = "prompt differs"
    IMAGES = "images differ"
    DOCUMENT = "document differs"


@dataclass(frozen=True)
class Unpaired:
    """A sample that only one run has, or two samples of one document with different prompts.

    `run` is the name of the first run if the pairings of several runs were pooled.
    """

    first: Sample | None
    second: Sample | None
    reason: Reason
    run: str = ""


@dataclass(frozen=True)
class Pairing:
    """The pairs of samples that both runs were asked, and the samples that could not be paired."""

    pairs: tuple[tuple[Sample, Sample], ...]
    unpaired: tuple[Unpaired, ...]


Key = Callable[[Sample], Hashable]


def pair(first: Sequence[Sample], second: Sequence[Sample]) -> Pairing:
    """Pair samples with equal task, filter, document, rendered prompt and image content.

    Samples that are equal in all of these are paired in order of occurrence, those that were asked
    for the same name in task.names first. The remaining samples
    are matched only to explain why they differ: first by document, then by position if the prompt
    is the same (an image that is decoded differently makes another document).
    """
    pairs, left, right = _matched(first, second, _asked_for)
    more, left, right = _matched(left, right, _asked)
    pairs += more
    unpaired = []
    for key in (_document, _place):
        explained, left, right = _matched(left, right, key)
        unpaired += [Unpaired(one, other, _difference(one, other)) for one, other in explained]
    unpaired += [Unpaired(one, None, Reason.ONLY_FIRST) for one in left]
    unpaired += [Unpaired(None, other, Reason.ONLY_SECOND) for other in right]
    return Pairing(tuple(pairs), tuple(unpaired))


def pooled(pairings: Sequence[tuple[str, Pairing]]) -> Pairing:
    """Join the pairings of several named runs with the same second run.

    A sample that all runs have is paired with all of their answers, merged as those to one question
    are. What one run could not pair stays unpaired.
    """
    answers: dict[int, list[Sample]] = {}
    seconds: dict[int, Sample] = {}
    for _, pairing in pairings:
        for first, second in pairing.pairs:
            answers.setdefault(id(second), []).append(first)
            seconds[id(second)] = second
    pairs = tuple(
        (merged([row for each in own for row in each.rows or (each,)]), seconds[key])
        for key, own in answers.items()
        if len(own) == len(pairings)
    )
    unpaired = tuple(
        replace(each, run=name) for name, pairing in pairings for each in pairing.unpaired
    )
    return Pairing(pairs, unpaired)


def _asked_for(sample: Sample) -> Hashable:
    return (sample.evaluation, _asked(sample))


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
    """Pairs with equal keys in the first run's order, and the remaining samples of both runs."""
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
