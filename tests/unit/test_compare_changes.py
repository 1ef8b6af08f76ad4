"""Each difference between two answers is called by its first cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.compare.changes import NEAR_TIE, Kind, explain
from runner.evidence.pairing import Reason
from runner.evidence.samples import Sample

ONE = Sample(
    "mini",
    0,
    prompt="Which?",
    target="A",
    responses=("A",),
    filtered="A",
    scores={"acc": 1.0},
    prompt_tokens=(20,),
    token_ids=(11, 2),
    logprobs=(-0.1, 0.0),
    margins=(3.0, 9.0),
    finish_reasons=("stop",),
)
OTHER = replace(ONE, responses=("B",), filtered="B", scores={"acc": 0.0}, token_ids=(12, 2))
TIED = replace(ONE, margins=(NEAR_TIE / 2, 9.0))


def test_equal_answers_are_no_change() -> None:
    assert explain(ONE, replace(ONE, logprobs=(-0.2, 0.0), margins=(2.0, 9.0))) is None


@pytest.mark.parametrize(
    ("first", "second", "reason", "kind"),
    [
        (ONE, ONE, Reason.PROMPT, Kind.PROMPT),
        (ONE, OTHER, Reason.IMAGES, Kind.IMAGES),
        (ONE, ONE, Reason.DOCUMENT, Kind.DOCUMENT),
        (ONE, replace(OTHER, truncated=True), None, Kind.TRUNCATED),
        (ONE, replace(OTHER, prompt_tokens=(24,)), None, Kind.PROMPT),
        (
            replace(ONE, image_hashes=("i",)),
            replace(OTHER, image_hashes=("i",), prompt_tokens=(24,)),
            None,
            Kind.IMAGES,
        ),
        (ONE, replace(OTHER, finish_reasons=("length",)), None, Kind.LIMIT),
        (
            ONE,
            replace(OTHER, finish_reasons=("length",), degenerate=("repeating",)),
            None,
            Kind.DEGENERATE,
        ),
        (ONE, replace(OTHER, guessed=True), None, Kind.UNPARSABLE),
        (ONE, replace(OTHER, filtered="[invalid]"), None, Kind.UNPARSABLE),
        (ONE, replace(ONE, scores={"acc": 0.0}), None, Kind.RESCORED),
        (TIED, replace(OTHER, margins=(NEAR_TIE / 2, 9.0)), None, Kind.NEAR_TIE),
        (ONE, OTHER, None, Kind.DIFFERENT),
    ],
)
def test_the_first_cause_is_named(
    first: Sample, second: Sample, reason: Reason | None, kind: Kind
) -> None:
    change = explain(first, second, reason)
    assert change is not None and change.kind is kind
    back = explain(second, first, reason)
    assert back is not None and back.kind is kind


def test_one_sure_side_is_no_near_tie() -> None:
    """Rounding would have to bridge both leads."""
    change = explain(TIED, OTHER)
    assert change is not None and change.kind is Kind.DIFFERENT


def test_the_place_the_leads_and_the_distance_are_told() -> None:
    longer = replace(ONE, token_ids=(7, 11, 2), logprobs=(-0.5, -0.1, 0.0), margins=(1.0, 3.0, 9.0))
    other = replace(
        longer,
        token_ids=(7, 12, 2),
        logprobs=(-0.25, -0.1, 0.0),
        margins=(1.0, 2.0, 9.0),
        responses=("B",),
    )
    change = explain(longer, other)
    assert change is not None
    assert change.token == 1
    assert change.margins == (3.0, 2.0)
    assert change.apart == 2.5


def test_several_requests_have_no_token_to_name() -> None:
    twice = {"finish_reasons": ("stop", "stop"), "prompt_tokens": (20, 21)}
    change = explain(replace(ONE, **twice), replace(OTHER, **twice))
    assert change is not None and change.token is None


@pytest.mark.parametrize(
    ("choices", "kind"),
    [
        ((-2.0, -1.9), Kind.NEAR_TIE),
        ((-5.0, -4.9), Kind.NEAR_TIE),
        ((-2.0, -1.0), Kind.DIFFERENT),
    ],
)
def test_scored_choices_turn_by_their_log_likelihoods(
    choices: tuple[float, float], kind: Kind
) -> None:
    one = replace(ONE, choice_logprobs=(-1.9, -2.0))
    assert explain(one, replace(one, choice_logprobs=(-1.8, -2.0))) is None
    change = explain(one, replace(OTHER, choice_logprobs=choices))
    assert change is not None and change.kind is kind
    assert change.token is None
