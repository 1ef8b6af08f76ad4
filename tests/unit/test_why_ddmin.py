"""ddmin: what it finds, that nothing can be left out of it, and how often it tests."""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.why.ddmin import Changes, State, ddmin, split

Judge = Callable[[Changes], State]


class Counted:
    """A test function that notes each subset that it is asked for."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.asked: list[Changes] = []

    def __call__(self, subset: Changes) -> State:
        self.asked.append(subset)
        return self._judge(subset)


def needs(*causes: Sequence[int]) -> Judge:
    """Fails where all changes of one of the causes are set."""
    return lambda subset: (
        State.BAD if any(set(each) <= set(subset) for each in causes) else State.GOOD
    )


def is_minimal(found: Changes, judge: Judge) -> bool:
    """Whether nothing can be left out, checked by trying; none at all is known to be good."""
    without = [tuple(c for c in found if c != each) for each in found]
    return all(not each or judge(each) is not State.BAD for each in without)


@pytest.mark.parametrize("n", range(1, 41))
def test_a_single_cause_takes_two_tests_for_each_halving(n: int) -> None:
    for cause in range(n):
        counted = Counted(needs([cause]))
        assert ddmin(tuple(range(n)), counted) == (cause,)
        assert len(counted.asked) <= 2 * math.ceil(math.log2(n))


@pytest.mark.parametrize("size", [2, 3])
def test_an_interaction_is_found_wherever_its_changes_are(size: int) -> None:
    for cause in itertools.combinations(range(9), size):
        assert ddmin(tuple(range(9)), needs(cause)) == cause


def test_of_two_causes_one_is_found() -> None:
    for one, other in itertools.permutations(range(10), 2):
        assert ddmin(tuple(range(10)), needs([one], [other])) in ((one,), (other,))


def test_all_changes_if_none_can_be_left_out() -> None:
    counted = Counted(needs(range(6)))
    assert ddmin(tuple(range(6)), counted) == tuple(range(6))
    assert tuple(range(6)) not in counted.asked and () not in counted.asked


def test_changes_that_fail_alone_are_unresolved_and_the_search_goes_on() -> None:
    def judge(subset: Changes) -> State:
        if 5 in subset and 2 not in subset:  # 5 can't be set without 2
            return State.UNRESOLVED
        return State.BAD if 7 in subset else State.GOOD

    assert ddmin(tuple(range(8)), judge) == (7,)
    together = Counted(lambda subset: State.BAD if {2, 5} <= set(subset) else judge(subset))
    assert ddmin((0, 1, 2, 3, 4, 5, 6), together) == (2, 5)


def test_nothing_is_known_if_every_test_is_unresolved() -> None:
    counted = Counted(lambda subset: State.UNRESOLVED)
    assert ddmin(tuple(range(5)), counted) == tuple(range(5))
    assert len(counted.asked) == len(set(counted.asked))


@given(st.integers(1, 60), st.data())
def test_parts_are_equal_and_whole(n: int, data: st.DataObject) -> None:
    parts = split(range(n), data.draw(st.integers(1, n)))
    assert tuple(itertools.chain(*parts)) == tuple(range(n))
    sizes = [len(each) for each in parts]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


@given(st.sets(st.frozensets(st.integers(0, 8), min_size=1), min_size=1, max_size=5))
def test_monotone_failures(causes: set[frozenset[int]]) -> None:
    judge = needs(*map(tuple, causes))
    counted = Counted(judge)
    found = ddmin(tuple(range(9)), counted)
    assert judge(found) is State.BAD
    assert is_minimal(found, judge)
    assert frozenset(found) in causes  # minimal sets of a monotone failure are its causes
    assert len(counted.asked) == len(set(counted.asked))


@given(st.integers(1, 9), st.integers(0, 10**6), st.sampled_from([0.05, 0.3, 0.7]))
def test_any_failure(n: int, seed: int, share: float) -> None:
    """Each subset is good, bad or unresolved at random; only the whole is sure to be bad."""
    weights = (1 - share, share, 0.2)
    drawn: dict[Changes, State] = {}

    def judge(subset: Changes) -> State:
        if len(subset) == n:
            return State.BAD
        if subset not in drawn:
            number = random.Random(f"{seed} {subset}")
            drawn[subset] = number.choices((State.GOOD, State.BAD, State.UNRESOLVED), weights)[0]
        return drawn[subset]

    counted = Counted(judge)
    found = ddmin(tuple(range(n)), counted)
    assert judge(found) is State.BAD
    assert is_minimal(found, judge)
    assert len(counted.asked) == len(set(counted.asked))
    assert all(list(each) == sorted(each) for each in counted.asked)
    # Zeller and Hildebrandt's bound for the worst case.
    assert len(counted.asked) <= n * n + 3 * n


@given(st.integers(2, 24), st.integers(0, 10**6))
def test_what_is_tested_next_is_announced_in_its_order(n: int, seed: int) -> None:
    drawn = random.Random(seed)
    states = dict.fromkeys(State, 1)

    @functools.cache
    def judge(subset: Changes) -> State:
        return drawn.choices(list(states), states.values())[0]

    counted = Counted(judge)
    levels: list[tuple[Changes, Sequence[Changes], int]] = []
    ddmin(
        tuple(range(n)),
        counted,
        lambda left, subsets: levels.append((left, subsets, len(counted.asked))),
    )
    ends = [begin for *_, begin in levels[1:]] + [len(counted.asked)]
    for (left, announced, begin), end in zip(levels, ends, strict=True):
        tested = counted.asked[begin:end]
        assert list(announced[: len(tested)]) == tested
        assert len(tested) == len(announced) or judge(tested[-1]) is State.BAD
        assert all(set(each) < set(left) for each in announced)
        assert len(set(announced)) == len(announced)
