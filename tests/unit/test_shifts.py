"""How far log-probabilities moved: tokens up to the parting, the parting itself, choices."""

from __future__ import annotations

import math

import pytest

from runner.evidence import shifts
from runner.evidence.samples import Sample


def answered(tokens: list[int], logprobs: list[float], margins: list[float]) -> Sample:
    return Sample("mini", 0, token_ids=tokens, logprobs=logprobs, margins=margins)


def test_equal_tokens_are_compared_one_by_one() -> None:
    one = answered([5, 6, 2], [-0.5, -0.25, 0.0], [1, 1, 1])
    other = answered([5, 6, 2], [-0.75, -0.25, -0.5], [1, 1, 1])
    assert list(shifts.of_tokens(one, other)) == [0.25, 0.0, 0.5]


def test_where_answers_part_both_leads_count_by_half() -> None:
    one = answered([5, 6, 2], [-0.5, -0.25, 0.0], [1, 3.0, 1])
    other = answered([5, 7, 2], [-0.75, -2.0, -4.0], [1, 1.0, 1])
    assert list(shifts.of_tokens(one, other)) == [0.25, 2.0]


def test_a_token_that_trails_leads_by_nothing() -> None:
    """Sampling may choose another than the best."""
    one = answered([5], [-0.5], [-3.0])
    other = answered([7], [-0.5], [1.0])
    assert list(shifts.of_tokens(one, other)) == [0.5]
    assert shifts.lead(one, 0) == 0.0


def test_unknown_leads_add_nothing() -> None:
    one = answered([5, 6], [-0.5, -1.0], [1, math.inf])
    other = answered([5, 7], [-0.5, -1.0], [1, 1])
    assert list(shifts.of_tokens(one, other)) == [0.0]
    assert shifts.lead(one, 1) is None and shifts.lead(one, 2) is None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([], [], None),
        ([1, 2], [1, 2], None),
        ([1, 2], [1, 3], 1),
        ([1, 2], [1, 2, 3], 2),
        ([], [1], 0),
    ],
)
def test_parting(first: list[int], second: list[int], expected: int | None) -> None:
    assert shifts.parting(first, second) == expected
    assert shifts.parting(second, first) == expected


def test_a_near_tie_is_one_on_both_sides() -> None:
    one, other = answered([5], [-0.7], [0.1]), answered([7], [-0.7], [0.2])
    assert shifts.tied(one, other, 0.25)
    assert not shifts.tied(one, other, 0.15)
    assert not shifts.tied(other, one, 0.15)
    assert not shifts.tied(answered([], [], []), answered([], [], []), 0.25)


def test_choices_are_compared_and_a_missing_one_is_as_far_as_can_be() -> None:
    one = Sample("mini", 0, choice_logprobs=(-1.0, -2.0, -math.inf))
    other = Sample("mini", 0, choice_logprobs=(-1.5, -2.0, -math.inf))
    assert list(shifts.of_choices(one, other)) == [0.5, 0.0, 0.0]
    fewer = Sample("mini", 0, choice_logprobs=(-1.0, -2.0))
    assert list(shifts.of_choices(one, fewer)) == [0.0, 0.0, math.inf]


def scored(logprobs: tuple[float, ...], tokens: tuple[int, ...] = ()) -> Sample:
    return Sample("mini", 0, choice_logprobs=logprobs, choice_tokens=tokens)


@pytest.mark.parametrize(("first", "second"), [((2, 4), (2, 4)), ((), (2, 4)), ((2, 4), ())])
def test_the_shift_of_a_choice_is_per_token(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    """0.5 over two tokens and 2 over four; one run's record of the numbers is enough."""
    one, other = scored((-1.0, -2.0), first), scored((-1.5, -4.0), second)
    assert list(shifts.of_choices(one, other)) == [0.25, 0.5]
    assert list(shifts.of_answers(one, other)) == [0.25, 0.5]
    assert list(shifts.of_sums(one, other)) == [0.5, 2.0]
    assert not shifts.summed(one, other)


def test_without_numbers_of_tokens_the_shift_is_that_of_the_sum() -> None:
    one, other = scored((-1.0, -2.0)), scored((-1.5, -4.0))
    assert list(shifts.of_choices(one, other)) == [0.5, 2.0]
    assert shifts.summed(one, other)
    assert not shifts.summed(answered([5], [-1.0], [1]), answered([5], [-1.0], [1]))


def test_the_shift_of_a_text_is_per_token() -> None:
    one, other = scored((-4000.0,), (3000,)), scored((-4006.0,), (3000,))
    assert shifts.of_choices(one, other) == pytest.approx([0.002])


def test_choices_of_another_tokenizer_are_not_comparable() -> None:
    one = scored((-1.0, -2.0), (2, 4))
    assert not shifts.comparable(one, scored((-1.0, -2.0), (2, 5)))
    assert shifts.comparable(one, scored((-1.0, -2.0), (2, 4)))
    assert shifts.comparable(one, scored((-1.0, -2.0)))
    assert shifts.comparable(one, scored((-1.0,), (2,)))  # the other was NaN: a finding


def test_tokens_without_log_probabilities_on_one_side_are_as_far_as_can_be() -> None:
    one, other = answered([5], [-0.5], [1.0]), answered([5], [], [])
    assert list(shifts.of_tokens(one, other)) == [math.inf]
