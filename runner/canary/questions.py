"""Questions about scenes: six kinds, from easy to hard.

==========  =======  ========================================================================
kind        images   what it needs
==========  =======  ========================================================================
``colour``  1        the colour channels in order, the normalisation
``shape``   1        the patches in order
``place``   1        looking up one shape among several, two-dimensional positions
``count``   1        fine detail over the whole image: the hard kind
``compare`` 2        which image is which, different grids side by side
``number``  1        an open answer of two to four digits, so several decoding steps
==========  =======  ========================================================================
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from runner.canary.scenes import Scene, crowd, number, places, single
from runner.canary.vocabulary import COUNTS, GROUPS, PLACES, VERDICTS

LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """A question in MMMU's form. ``options`` is empty for an open question.

    ``answer`` is the right word itself, not its letter. ``cue`` is the word of the text that says
    which shape is meant; only training uses it.
    """

    kind: str
    text: str
    scenes: tuple[Scene, ...]
    options: tuple[str, ...]
    answer: str
    cue: str = ""

    @property
    def target(self) -> str:
        """The expected reply: a letter, or the answer itself if the question is open."""
        return LETTERS[self.options.index(self.answer)] if self.options else self.answer

    @property
    def tagged(self) -> str:
        """The text with MMMU's image tags in front."""
        return " ".join([f"<image {i + 1}>" for i in range(len(self.scenes))] + [self.text])


def _shuffled(rng: random.Random, options: list[str]) -> tuple[str, ...]:
    rng.shuffle(options)
    return tuple(options)


def _with_others(rng: random.Random, answer: str, pool: tuple[str, ...]) -> tuple[str, ...]:
    others = [word for word in pool if word != answer]
    return _shuffled(rng, [*rng.sample(others, 3), answer])


def _colour(rng: random.Random) -> Question:
    scene = single(rng)
    answer = scene.names["colour"]
    options = _with_others(rng, answer, GROUPS["colour"])
    return Question("colour", "What colour is the shape?", (scene,), options, answer)


def _shape(rng: random.Random) -> Question:
    scene = single(rng)
    answer = scene.names["shape"]
    options = _with_others(rng, answer, GROUPS["shape"])
    return Question("shape", "Which shape is shown?", (scene,), options, answer)


def _place(rng: random.Random) -> Question:
    scene = places(rng)
    mark = rng.choice(scene.marks)
    colour, answer = mark.names["colour"], mark.names["place"]
    options = _shuffled(rng, list(PLACES))
    return Question("place", f"Where is the {colour} shape?", (scene,), options, answer, colour)


def _count(rng: random.Random) -> Question:
    count = rng.randint(1, len(COUNTS))
    first = rng.randint(max(1, count - 3), min(count, len(COUNTS) - 3))
    options = _shuffled(rng, list(COUNTS[first - 1 : first + 3]))
    text = "How many shapes are there?"
    return Question("count", text, (crowd(rng, count),), options, COUNTS[count - 1])


def _compare(rng: random.Random) -> Question:
    answer = rng.choice(VERDICTS)
    few, many = sorted(rng.sample(range(1, 7), 2))
    a, b = {"first": (many, few), "second": (few, many), "equal": (few, few)}[answer]
    if answer == "equal":
        a = b = rng.randint(1, 6)
    options = _shuffled(rng, list(VERDICTS))
    scenes = (crowd(rng, a), crowd(rng, b))
    return Question("compare", "Which image has more shapes?", scenes, options, answer)


def _number(rng: random.Random) -> Question:
    length = rng.randint(2, 4)
    digits = rng.choice("123456789") + "".join(rng.choices("0123456789", k=length - 1))
    return Question("number", "What number is shown?", (number(rng, digits),), (), digits)


KINDS: dict[str, Callable[[random.Random], Question]] = {
    "colour": _colour,
    "shape": _shape,
    "place": _place,
    "count": _count,
    "compare": _compare,
    "number": _number,
}


def ask(rng: random.Random, kind: str) -> Question:
    """Make one question of ``kind``; the same state of ``rng`` gives the same question."""
    return KINDS[kind](rng)
