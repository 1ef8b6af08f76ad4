"""engine=transformers goes on from the journal: the real classes on the canary, dying at a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.lm.journal import Journal
from tests.unit.test_transformers_classes import (
    ASKED,
    LONG,
    TOO_LONG,
    RecordedHFMultimodal,
    instance,
    lm,
    loaded,
    read,
    seen,
)

__all__ = ["lm", "loaded"]  # fixtures

Asked = Callable[[], list[Any]]


class Died(BaseException):
    """The process, at a step of the engine."""


def scored(number: int, context: str, continuation: str) -> Any:
    return instance(number, (context, continuation), "loglikelihood")


def rolled(number: int, text: str) -> Any:
    return instance(number, (text,), "loglikelihood_rolling")


# Of each kind some that are equal, and batches of different lengths.
KINDS: dict[str, Asked] = {
    "images": lambda: [
        *(seen(number, size=40 + 20 * (number % 3)) for number in range(6)),
        instance(6, seen(2, size=80).args),
    ],
    "text": lambda: [
        *(read(number, "one two " * (1 + number % 4)) for number in range(5)),
        *(read(number, "red blue", max_gen_toks=3) for number in range(5, 9)),
    ],
    "choices": lambda: [
        scored(
            number,
            "one two " * (1 + number // 4),
            (" red", " blue", " one two", " red")[number % 4],
        )
        for number in range(16)
    ],
    "rolling": lambda: [
        rolled(number, "one two red blue " * (20 + 20 * number)) for number in range(3)
    ],
}


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[], Journal]:
    return lambda: Journal(tmp_path / "journal" / "engine", tmp_path / "run", 2**26, pytest.fail)


def ask(lm: RecordedHFMultimodal, requests: list[Any]) -> tuple[list[Any], list[Any]]:
    """What lm-eval gets, and what is recorded."""
    lm.forget()
    results = getattr(lm, requests[0].request_type)(requests)
    return results, [lm.answers_to(request) for request in requests]


def die(lm: RecordedHFMultimodal, requests: list[Any], journal: Journal, step: int) -> int:
    """Ask until a step; the number of answers that the journal got before it."""
    lm.begin(None, journal)
    beats = iter(range(step))

    def beat(seconds_left: Any = None, tokens: Any = None) -> None:
        if next(beats, None) is None:
            raise Died

    kept = 0

    def keep(key: Any, answer: Any) -> None:
        nonlocal kept
        kept += 1
        Journal.keep(journal, key, answer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm.batches.progress, "beat", beat)
        patch.setattr(journal, "keep", keep)
        with pytest.raises(Died):
            ask(lm, requests)
    lm._scores._unkept.clear()  # as the process with it
    journal.close(completed=False)
    return kept


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_answered_is_not_asked_again_and_the_rest_to_the_same_bit(
    lm: RecordedHFMultimodal, opened: Callable[[], Journal], kind: str
) -> None:
    requests = KINDS[kind]()
    lm.batch_size = 2
    undisturbed = ask(lm, requests)
    whole = lm.fed()
    kept = die(lm, requests, opened(), whole.steps // 2)
    assert 0 < kept < whole.asked
    journal = opened()
    lm.begin(None, journal)
    assert ask(lm, requests) == undisturbed
    fed = lm.fed()
    assert (fed.resumed, fed.asked) == (kept, whole.asked - kept)
    assert 0 < fed.steps < whole.steps
    assert lm.batches.progress.done == len(requests)
    # Dead again, behind the last answer: nothing is left to be asked.
    journal.close(completed=False)
    journal = opened()
    lm.begin(None, journal)
    assert ask(lm, requests) == undisturbed
    assert (lm.fed().resumed, lm.fed().asked, lm.fed().steps) == (whole.asked, 0, 0)


def resumed(
    lm: RecordedHFMultimodal, opened: Callable[[], Journal], first: Any, second: Any
) -> int:
    """How many of the second's requests an attempt has answered that died behind the first."""
    for request in (first, second):
        journal = opened()
        lm.begin(None, journal)
        ask(lm, [request])
        journal.close(completed=False)
    return lm.fed().resumed


def dotted() -> Any:
    request = seen(0)
    request.args[2]["visual"][0].putpixel((7, 7), (0, 0, 0))
    return request


OTHERS = {
    "a pixel": (seen(0), dotted()),
    "no image": (seen(0), read(0, ASKED)),
    "a setting": (read(0, "one two"), read(0, "one two", max_gen_toks=7)),
    "a stop text": (read(0, "one two"), read(0, "one two", until=["red"])),
    "a choice": (scored(0, "one two", " red"), scored(0, "one two", " blue")),
    "what is scored": (scored(0, "one", " two red"), scored(0, "one two", " red")),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_question_is_asked(
    lm: RecordedHFMultimodal, opened: Callable[[], Journal], what: str
) -> None:
    first, second = OTHERS[what]
    assert resumed(lm, opened, first, second) == 0


def test_a_prompt_that_does_not_fit_is_told_again(
    lm: RecordedHFMultimodal, opened: Callable[[], Journal]
) -> None:
    long = seen(1, ASKED.replace("(A) red", "(A) red" * LONG))
    assert resumed(lm, opened, long, long) == 1
    (answer, cut) = lm.answers_to(long)[0]
    assert not cut
    assert answer.finish_reason == TOO_LONG


def test_what_is_drawn_is_not_kept(
    lm: RecordedHFMultimodal, opened: Callable[[], Journal], tmp_path: Path
) -> None:
    drawn = read(0, "one two", do_sample=True, temperature=1.0)
    assert resumed(lm, opened, drawn, drawn) == 0
    assert not list(tmp_path.rglob("*.answers"))
