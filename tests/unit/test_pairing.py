"""Samples are pairs only where the same was asked; what is not paired says why."""

from __future__ import annotations

import random
from dataclasses import replace

from runner.evidence.pairing import Reason, pair
from runner.evidence.samples import Sample


def asked(place: int, **other: object) -> Sample:
    plain = Sample(
        "mini", place, doc_hash=f"doc {place}", prompt_hash=f"prompt {place}", image_hashes=("i",)
    )
    return replace(plain, **other)  # type: ignore[arg-type]


FIRST = [asked(place) for place in range(10)]


def test_the_order_of_a_file_does_not_matter() -> None:
    second = [replace(sample, responses=("B",)) for sample in FIRST]
    random.Random(0).shuffle(second)
    pairing = pair(FIRST, second)
    assert [one.doc_id for one, _ in pairing.pairs] == list(range(10))
    assert all(one.doc_hash == other.doc_hash for one, other in pairing.pairs)
    assert pairing.unpaired == ()


def test_equal_places_of_other_documents_are_no_pairs() -> None:
    second = [replace(sample, doc_hash="other", prompt_hash="other") for sample in FIRST]
    pairing = pair(FIRST, second)
    assert pairing.pairs == ()
    reasons = [each.reason for each in pairing.unpaired]
    assert reasons == [Reason.ONLY_FIRST] * 10 + [Reason.ONLY_SECOND] * 10


def test_a_prompt_and_an_image_that_differ_are_named() -> None:
    second = [
        asked(0, prompt_hash="with a system message"),
        asked(1, image_hashes=("resized",)),
        # The document holds the image: decoded differently, both hashes change.
        asked(2, image_hashes=("decoded",), doc_hash="decoded"),
        asked(3, doc_hash="another target"),
        *FIRST[4:],
    ]
    pairing = pair(FIRST, second)
    assert len(pairing.pairs) == 6
    found = {each.first.doc_id: each.reason for each in pairing.unpaired if each.first}
    assert found == {0: Reason.PROMPT, 1: Reason.IMAGES, 2: Reason.IMAGES, 3: Reason.DOCUMENT}
    assert all(each.second is not None for each in pairing.unpaired)


def test_what_one_run_alone_has_is_named() -> None:
    pairing = pair(FIRST[:8], FIRST[2:])
    assert len(pairing.pairs) == 6
    assert [each.reason.value for each in pairing.unpaired] == [
        "only in first",
        "only in first",
        "only in second",
        "only in second",
    ]


def test_questions_asked_twice_are_matched_in_their_order() -> None:
    twice = [asked(0, responses=("one",)), asked(0, responses=("two",))]
    pairing = pair(twice, [asked(0, responses=("uno",)), asked(0, responses=("due",)), asked(0)])
    assert [(a.responses, b.responses) for a, b in pairing.pairs] == [
        (("one",), ("uno",)),
        (("two",), ("due",)),
    ]
    assert [each.reason for each in pairing.unpaired] == [Reason.ONLY_SECOND]


def test_filters_and_tasks_are_not_mixed() -> None:
    strict, flexible = asked(0, filter="strict"), asked(0, filter="flexible")
    assert pair([strict, flexible], [flexible, strict]).pairs == (
        (strict, strict),
        (flexible, flexible),
    )
    assert pair([asked(0)], [asked(0, task="other")]).pairs == ()


def test_empty_runs_have_no_pairs() -> None:
    assert pair([], []).pairs == ()
    assert len(pair(FIRST, []).unpaired) == 10
