"""Delta debugging: the smallest set of changes that causes a failure.

Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE
Transactions on Software Engineering 28(2), 2002: the algorithm ddmin.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Sequence


class State(str, enum.Enum):
    """Whether a set of changes shows the failure; UNRESOLVED if that can't be told."""

    GOOD = "good"
    BAD = "bad"
    UNRESOLVED = "unresolved"


Changes = tuple[int, ...]
Test = Callable[[Changes], State]
# Called with the changes that are left, and the subsets of them that are tested next.
Ahead = Callable[[Changes, Sequence[Changes]], None]


def ddmin(changes: Changes, test: Test, ahead: Ahead = lambda changes, subsets: None) -> Changes:
    """Return a 1-minimal failing subset of changes that fail together.

    No single change can be removed from it without the failure disappearing, or the test becoming
    unresolved. `test` is called once for each subset, never for the whole and never for none.
    `ahead` is called before the tests of each granularity, which do not depend on each other: they
    follow in this order, up to the first that fails.
    """
    known: dict[Changes, State] = {}

    def fails(subset: Changes) -> bool:
        if subset not in known:
            known[subset] = test(subset)
        return known[subset] is State.BAD

    parts = 2
    while len(changes) > 1:
        subsets = split(changes, parts)
        complements = [tuple(c for c in changes if c not in each) for each in subsets * (parts > 2)]
        ahead(changes, [each for each in (*subsets, *complements) if each not in known])
        failing = next((each for each in subsets if fails(each)), None)
        if failing is not None:
            changes, parts = failing, 2
            continue
        failing = next((each for each in complements if fails(each)), None)
        if failing is not None:
            changes, parts = failing, max(parts - 1, 2)
        elif parts < len(changes):
            parts = min(2 * parts, len(changes))
        else:
            break
    return changes


def split(changes: Sequence[int], parts: int) -> list[Changes]:
    """Cut a sequence into parts whose lengths differ by one at most."""
    ends = [round(len(changes) * number / parts) for number in range(parts + 1)]
    return [tuple(changes[a:b]) for a, b in itertools.pairwise(ends)]
