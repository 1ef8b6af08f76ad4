"""Scenes: one image each, with notes on what was drawn where.

The notes (``Mark`` and ``Scene.names``) are only used in training; the data set contains only the
image.
"""

import math
import random
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from runner.canary.draw import draw_digit, draw_shape
from runner.canary.vocabulary import COLOURS, COUNTS, DIGITS, ORDINALS, SHAPES

Size = tuple[int, int]

# (width, height) in pixels. Few are multiples of 28 (two patches), so the processor has to resize.
# The first is below the processor's min_pixels, the last two above its max_pixels.
SIZES: tuple[Size, ...] = (
    (64, 48),
    (112, 112),
    (100, 100),
    (98, 120),
    (140, 84),
    (84, 140),
    (130, 76),
    (80, 150),
    (180, 120),
    (150, 200),
)
# Image sizes for numbers, by number of digits in the line.
NUMBER_SIZES: dict[int, tuple[Size, ...]] = {
    2: ((70, 50), (84, 84), (96, 60)),
    3: ((112, 56), (126, 80), (100, 60)),
    4: ((140, 56), (168, 60), (150, 80), (210, 90)),
}
_ANCHORS = {"left": (0.2, 0.5), "right": (0.8, 0.5), "top": (0.5, 0.2), "bottom": (0.5, 0.8)}


@dataclass(frozen=True)
class Mark:
    """One drawn object: its centre as fractions of width and height, its names by word group."""

    x: float
    y: float
    names: dict[str, str]


@dataclass(frozen=True)
class Scene:
    """An RGB image, its marks, and the names that apply to the whole image."""

    image: Image.Image
    marks: tuple[Mark, ...] = ()
    names: dict[str, str] = field(default_factory=dict)


def _canvas(rng: random.Random, size: Size) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    grey = rng.randint(105, 150)
    image = Image.new("RGB", size, (grey, grey, grey))
    return image, ImageDraw.Draw(image)


def single(rng: random.Random) -> Scene:
    """One shape of any colour at any position."""
    width, height = size = rng.choice(SIZES)
    image, pen = _canvas(rng, size)
    colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
    radius = rng.uniform(0.14, 0.24) * min(size)
    x = rng.uniform(radius + 1, width - radius - 2)
    y = rng.uniform(radius + 1, height - radius - 2)
    draw_shape(pen, shape, x, y, radius, COLOURS[colour])
    names = {"colour": colour, "shape": shape}
    return Scene(image, (Mark(x / width, y / height, names),), names)


def glimpse(rng: random.Random) -> Scene:
    """One shape or digit in a small square. Training starts with these because they are cheap."""
    side = 56
    image, pen = _canvas(rng, (side, side))
    colour = rng.choice(list(COLOURS))
    if rng.random() < 0.5:
        shape, radius = rng.choice(SHAPES), rng.uniform(6, 24)
        x, y = (rng.uniform(radius, side - radius) for _ in range(2))
        draw_shape(pen, shape, x, y, radius, COLOURS[colour])
        names = {"colour": colour, "shape": shape}
    else:
        digit, width = rng.choice(DIGITS), rng.uniform(11, 20)
        height = rng.uniform(1.4, 1.7) * width
        x = rng.uniform(width / 2, side - width / 2)
        y = rng.uniform(height / 2, side - height / 2)
        draw_digit(pen, digit, x, y, width, height, COLOURS[colour])
        names = {"colour": colour, "digit": digit}
    return Scene(image, (Mark(x / side, y / side, names),))


def crowd(rng: random.Random, count: int) -> Scene:
    """``count`` shapes of one kind, placed so that they do not overlap."""
    width, height = size = rng.choice(SIZES)
    image, pen = _canvas(rng, size)
    colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
    radius = rng.uniform(0.075, 0.1) * math.sqrt(width * height)
    centres: list[tuple[float, float]] = []
    while len(centres) < count:
        centres.clear()
        for _ in range(60):
            x = rng.uniform(radius + 1, width - radius - 2)
            y = rng.uniform(radius + 1, height - radius - 2)
            if all(math.hypot(x - a, y - b) > 2.15 * radius + 1 for a, b in centres):
                centres.append((x, y))
            if len(centres) == count:
                break
    for x, y in centres:
        draw_shape(pen, shape, x, y, radius, COLOURS[colour])
    names = {"colour": colour, "shape": shape}
    marks = tuple(Mark(x / width, y / height, names) for x, y in centres)
    return Scene(image, marks, {"count": COUNTS[count - 1]})


def places(rng: random.Random) -> Scene:
    """Two to four shapes of different colours, each on a different side of the image."""
    width, height = size = rng.choice(SIZES)
    image, pen = _canvas(rng, size)
    sides = rng.sample(list(_ANCHORS), rng.randint(2, 4))
    colours = rng.sample(list(COLOURS), len(sides))
    marks = []
    for side, colour in zip(sides, colours, strict=True):
        shape = rng.choice(SHAPES)
        fx, fy = (a + rng.uniform(-0.06, 0.06) for a in _ANCHORS[side])
        radius = rng.uniform(0.11, 0.15) * min(size)
        draw_shape(pen, shape, fx * width, fy * height, radius, COLOURS[colour])
        marks.append(Mark(fx, fy, {"colour": colour, "shape": shape, "place": side}))
    return Scene(image, tuple(marks))


def number(rng: random.Random, digits: str) -> Scene:
    """A line of two to four seven-segment digits."""
    width, height = size = rng.choice(NUMBER_SIZES[len(digits)])
    image, pen = _canvas(rng, size)
    colour = COLOURS[rng.choice(list(COLOURS))]
    pitch = width / (len(digits) + 0.4)
    digit_width = rng.uniform(0.5, 0.62) * pitch
    digit_height = min(rng.uniform(1.4, 1.7) * digit_width, 0.8 * height)
    left = (width - pitch * len(digits)) / 2 + rng.uniform(-0.15, 0.15) * pitch
    y = height / 2 + rng.uniform(-0.4, 0.4) * (height - digit_height - 4)
    marks = []
    for index, digit in enumerate(digits):
        x = left + (index + 0.5) * pitch
        draw_digit(pen, digit, x, y, digit_width, digit_height, colour)
        marks.append(Mark(x / width, y / height, {"digit": digit, "order": ORDINALS[index]}))
    return Scene(image, tuple(marks))
