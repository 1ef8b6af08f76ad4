"""Text questions for the mixture-of-experts canary: six kinds, all with open answers.

===========  ==========================================================  ====================
kind         what it needs                                               answer
===========  ==========================================================  ====================
``copy``     looking up each digit in its place                          4 to 8 digits
``reverse``  the same from the end, so the length matters                4 to 8 digits
``sort``     a comparison of all digits                                  4 to 8 digits
``sum``      arithmetic with carries                                     2 or 3 digits
``recall``   finding the one of several pairs that is asked about        a colour
``count``    counting over the whole prompt                              a number word
===========  ==========================================================  ====================
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from runner.canary.vocabulary import COLOURS, COUNTS, SHAPES

_SHORTEST, _LONGEST = 4, 8  # digits of a number to copy, reverse or sort
_NAMES = tuple(COLOURS)


@dataclass(frozen=True)
class Question:
    """A question and its right answer, which is also the expected reply."""

    kind: str
    text: str
    answer: str


def _digits(rng: random.Random) -> str:
    return "".join(rng.choices("0123456789", k=rng.randint(_SHORTEST, _LONGEST)))


def _copy(rng: random.Random) -> Question:
    digits = _digits(rng)
    return Question("copy", f"Copy {digits}.", digits)


def _reverse(rng: random.Random) -> Question:
    digits = _digits(rng)
    return Question("reverse", f"Reverse {digits}.", digits[::-1])


def _sort(rng: random.Random) -> Question:
    digits = _digits(rng)
    return Question("sort", f"Sort {digits}.", "".join(sorted(digits)))


def _sum(rng: random.Random) -> Question:
    first, second = (rng.randint(10, 99) for _ in range(2))
    return Question("sum", f"Add {first} and {second}.", str(first + second))


def _recall(rng: random.Random) -> Question:
    shapes = rng.sample(SHAPES, rng.randint(2, 5))
    colours = dict(zip(shapes, rng.choices(_NAMES, k=len(shapes)), strict=True))
    told = ", ".join(f"{shape} {colour}" for shape, colour in colours.items())
    asked = rng.choice(shapes)
    return Question("recall", f"{told}. What colour is the {asked}?", colours[asked])


def _count(rng: random.Random) -> Question:
    count = rng.randint(1, len(COUNTS))
    asked, *others = rng.sample(_NAMES, 4)
    words = [asked] * count + rng.choices(others, k=rng.randint(2, 6))
    rng.shuffle(words)
    return Question("count", f"{' '.join(words)}. How many are {asked}?", COUNTS[count - 1])


KINDS: dict[str, Callable[[random.Random], Question]] = {
    "copy": _copy,
    "reverse": _reverse,
    "sort": _sort,
    "sum": _sum,
    "recall": _recall,
    "count": _count,
}


def ask(rng: random.Random, kind: str) -> Question:
    """Make one question of ``kind``; the same state of ``rng`` gives the same question."""
    return KINDS[kind](rng)
