"""The closed vocabulary of the canary: everything that can be drawn, asked and answered.

Every word here is one token of the canary's tokenizer, with and without a leading space. Words are
in groups because training asks "which word *of this group*" (see ``hints.py``).
"""

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (220, 30, 30),
    "green": (30, 170, 50),
    "blue": (40, 60, 220),
    "yellow": (240, 220, 40),
    "purple": (150, 40, 170),
    "orange": (245, 140, 20),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "cross", "diamond", "ring")
COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLACES = ("left", "right", "top", "bottom")
VERDICTS = ("first", "second", "equal")
ORDINALS = ("first", "second", "third", "fourth")
DIGITS = tuple("0123456789")

GROUPS: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "count": COUNTS,
    "place": PLACES,
    "compare": VERDICTS,
    "order": ORDINALS,
    "digit": DIGITS,
}
