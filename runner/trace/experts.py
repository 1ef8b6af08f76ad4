"""Mixture-of-experts blocks: where tokens are routed, and the one expert that departs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.evidence.choices import Choices, Token, read_choices
from runner.evidence.sketches import Sketches, read_sketches
from runner.stats.several import holm
from runner.trace.departures import BROKEN, ENOUGH, FACTOR, LEVEL, Found, Module, judge, ratios
from runner.trace.differences import Compared, Difference, compared, summary

# The experts of a token, by token.
Sets = dict[Token, frozenset[int]]


@dataclass(frozen=True)
class Evidence:
    """What a traced run leaves: the sketches of its modules, and its routers' choices."""

    sketches: Sketches
    choices: Mapping[str, Choices]

    @classmethod
    def read(cls, directory: Path) -> Evidence:
        """Read the sketches and choices of a traced run.

        Raises:
            UserError: if it has no sketches, or a file can't be read.
        """
        return cls(read_sketches(directory), read_choices(directory))


@dataclass(frozen=True)
class Routing:
    """The choices of one block's router, for the tokens that both traces have.

    `first` and `second` are the numbers of tokens that A and B route to each expert. `changed` is
    the share of tokens with other experts in B than in A, and `noise` that in A's second run.
    """

    block: str
    tokens: int
    first: tuple[int, ...]
    second: tuple[int, ...]
    changed: float
    noise: float


@dataclass(frozen=True)
class Expert:
    """The output of a block for the tokens that are routed to one expert.

    Only `tokens` with the same experts in A and B are compared. `difference`, `noise`, `ratio` and
    `p` are as of a module. `others` is the ratio of the tokens that are not routed to it, and
    `worst` the largest in a single question, BROKEN if B has NaN or infinite values there; None if
    there are too few.
    """

    number: int
    tokens: int
    difference: float
    noise: float
    ratio: float
    p: float
    others: float | None
    worst: float | None

    @property
    def departs(self) -> bool:
        return self.p < LEVEL


@dataclass(frozen=True)
class Experts:
    """The experts of the first block that departs, and the number of the one that departs alone.

    It does so if it departs, and the tokens that are not routed to it agree in every question: a
    second faulty expert may be used in a few questions alone. None is named if the first module
    that departs is before the block: what an expert gets differs then.
    """

    block: str
    experts: tuple[Expert, ...]
    alone: int | None = None


def routings(a: Evidence, b: Evidence, noise: Evidence) -> tuple[Routing, ...]:
    """Compare the routers of all blocks that both traces have, in the order of execution."""
    found = []
    for block, ours in a.choices.items():
        first, second = _sets(ours), _sets(b.choices.get(block))
        both = first.keys() & second.keys()
        if not both:
            continue
        again = _sets(noise.choices.get(block))
        known = first.keys() & again.keys()
        counts = [
            Counter(expert for token in both for expert in each[token]) for each in (first, second)
        ]
        numbers = range(max(ours.number, *(max(each, default=-1) + 1 for each in counts)))
        found.append(
            Routing(
                block,
                len(both),
                tuple(counts[0][number] for number in numbers),
                tuple(counts[1][number] for number in numbers),
                sum(first[token] != second[token] for token in both) / len(both),
                sum(first[token] != again[token] for token in known) / max(len(known), 1),
            )
        )
    return tuple(found)


def blamed(a: Evidence, b: Evidence, noise: Evidence, found: Found) -> Experts | None:
    """Judge each expert of the first block that departs; None if there is no such block."""
    block = first_block(found, list(a.choices))
    judged = [each for each in found.modules if each.module == block]
    if block is None or not judged:
        return None
    between = _Rows.of(a, b, block)
    again = _Rows.of(a, noise, block)
    numbers = sorted({expert for experts in between.experts for expert in experts})
    pairs = []
    for number in numbers:
        inside = _judged(between, again, judged, number, routed=True)
        if inside is not None:
            pairs.append((number, inside, _judged(between, again, judged, number, routed=False)))
    adjusted = holm([inside.module.p for _, inside, _ in pairs])
    experts = tuple(
        Expert(
            number,
            inside.module.rows,
            inside.module.difference,
            inside.module.noise,
            inside.module.ratio,
            p,
            None if others is None else others.module.ratio,
            None if others is None else others.worst,
        )
        for (number, inside, others), p in zip(pairs, adjusted, strict=True)
    )
    alone = [
        each.number
        for each in experts
        if each.departs and each.worst is not None and each.worst <= FACTOR
    ]
    origin = found.first is not None and within(found.first.module, block)
    return Experts(block, experts, alone[0] if origin and len(alone) == 1 else None)


def first_block(found: Found, blocks: Sequence[str]) -> str | None:
    """The first of these blocks that departs, or has a module that does."""
    for each in found.modules:
        for block in blocks if each.departs else ():
            if within(each.module, block):
                return block
    return None


def within(module: str, block: str) -> bool:
    """Whether a module is a block, or in it."""
    return module == block or module.startswith(f"{block}.")


@dataclass(frozen=True)
class _Rows:
    """The rows of a block's output for tokens that two traces route to the same experts."""

    first: Sketches
    rows: Compared
    places: NDArray[Any]
    experts: list[frozenset[int]]

    @classmethod
    def of(cls, first: Evidence, second: Evidence, block: str) -> _Rows:
        rows = compared(first.sketches, second.sketches)
        ours, theirs = (_sets(each.choices.get(block)) for each in (first, second))
        sketches = first.sketches
        module = sketches.names.tolist().index(block)
        places, experts = [], []
        for place in np.flatnonzero(sketches.module[rows.ours] == module).tolist():
            row = rows.ours[place]
            token = (
                str(sketches.questions[sketches.question[row]]),
                int(sketches.phase[row]),
                int(sketches.position[row]),
            )
            if token in ours and ours[token] == theirs.get(token):
                places.append(place)
                experts.append(ours[token])
        return cls(sketches, rows, np.array(places, dtype=np.int64), experts)

    def summary(self, number: int, routed: bool, judged: Module) -> Difference | None:
        """The difference of the tokens that are, or are not, routed to an expert."""
        kept = [(number in experts) == routed for experts in self.experts]
        chosen = self.places[np.array(kept, dtype=bool)]
        if not len(chosen):
            return None
        name = f"{judged.module} expert {number}"
        return summary(name, judged.phase, 0, judged.dtype, self.first, self.rows, chosen)


@dataclass(frozen=True)
class _Tokens:
    """Tokens as a module, and their largest ratio in a single question."""

    module: Module
    worst: float


def _judged(
    between: _Rows, again: _Rows, judged: Sequence[Module], number: int, routed: bool
) -> _Tokens | None:
    """The tokens of an expert, or all others, as a module; None for those of few questions."""
    difference, noise = (rows.summary(number, routed, judged[0]) for rows in (between, again))
    if difference is None or noise is None:
        return None
    least = min(each.noise for each in judged)
    found = judge(difference, noise, least)
    if found.questions < ENOUGH:
        return None
    return _Tokens(found, BROKEN if found.broken[1] else max(ratios(difference, noise, least)))


def _sets(choices: Choices | None) -> Sets:
    if choices is None:
        return {}
    # Some kernels mark a padded choice with -1.
    sets = [frozenset(number for number in each if number >= 0) for each in choices.chosen.tolist()]
    return dict(zip(choices.tokens, sets, strict=True))
