"""Drawing primitives: filled shapes and seven-segment digits, without anti-aliasing or noise.

Flat colours keep a PNG at a few hundred bytes, so that the whole data set stays below a megabyte.
"""

from PIL import ImageDraw

from runner.canary.vocabulary import Colour

# Segments of each digit: a top, b upper right, c lower right, d bottom, e lower left, f upper left,
# g middle.
_SEGMENTS = {
    "0": "abcdef",
    "1": "bc",
    "2": "abged",
    "3": "abgcd",
    "4": "fgbc",
    "5": "afgcd",
    "6": "afgedc",
    "7": "abc",
    "8": "abcdefg",
    "9": "abcdfg",
}


def draw_shape(
    pen: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, colour: Colour
) -> None:
    """Draw one filled ``shape`` centred at pixel (x, y) that fits into a circle of ``radius``."""
    r = radius
    if shape == "circle":
        pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)
    elif shape == "square":
        side = 0.88 * r
        pen.rectangle([x - side, y - side, x + side, y + side], fill=colour)
    elif shape == "triangle":
        pen.polygon([(x, y - r), (x + r, y + 0.85 * r), (x - r, y + 0.85 * r)], fill=colour)
    elif shape == "diamond":
        pen.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=colour)
    elif shape == "cross":
        arm = 0.33 * r
        pen.rectangle([x - arm, y - r, x + arm, y + r], fill=colour)
        pen.rectangle([x - r, y - arm, x + r, y + arm], fill=colour)
    elif shape == "ring":
        pen.ellipse([x - r, y - r, x + r, y + r], outline=colour, width=max(2, int(0.36 * r)))
    else:
        raise ValueError(f"unknown shape: {shape}")


def draw_digit(
    pen: ImageDraw.ImageDraw,
    digit: str,
    x: float,
    y: float,
    width: float,
    height: float,
    colour: Colour,
) -> None:
    """Draw one seven-segment ``digit`` of ``width`` x ``height`` pixels, centred at (x, y)."""
    left, right = x - width / 2, x + width / 2
    top, bottom = y - height / 2, y + height / 2
    t = max(2.0, 0.2 * width)
    boxes = {
        "a": (left, top, right, top + t),
        "b": (right - t, top, right, y),
        "c": (right - t, y, right, bottom),
        "d": (left, bottom - t, right, bottom),
        "e": (left, y, left + t, bottom),
        "f": (left, top, left + t, y),
        "g": (left, y - t / 2, right, y + t / 2),
    }
    for segment in _SEGMENTS[digit]:
        pen.rectangle(boxes[segment], fill=colour)
