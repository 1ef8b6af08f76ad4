"""An image reaches transformers as vLLM shows it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from runner.runtimes.shown import as_vllm_shows

RED, WHITE = (255, 0, 0), (255, 255, 255)


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> Image.Image:
    """As a data set has it: encoded, and opened again."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


def palette(transparent: int) -> Image.Image:
    image = Image.new("L", (4, 3), transparent).convert("P")
    image.info["transparency"] = transparent
    return image


def test_a_plain_image_is_left_alone() -> None:
    image = Image.new("RGB", (4, 3), RED)
    assert as_vllm_shows(image).tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(mode: str) -> None:
    shown = as_vllm_shows(Image.new("RGB", (4, 3), WHITE).convert(mode))
    assert (shown.mode, shown.size, shown.getpixel((0, 0))) == ("RGB", (4, 3), WHITE)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (4, 3), (*RED, 0)),
        Image.new("LA", (4, 3), (0, 0)),
        stored(Image.new("L", (4, 3), 7), transparency=7),
        palette(transparent=3),
    ],
    ids=["RGBA", "LA", "grey with a transparent shade", "palette with a transparent colour"],
)
def test_what_is_transparent_is_white(image: Image.Image) -> None:
    assert as_vllm_shows(image).getpixel((1, 1)) == WHITE


def test_half_of_a_colour_is_half_white() -> None:
    assert as_vllm_shows(Image.new("RGBA", (1, 1), (0, 0, 0, 128))).getpixel((0, 0)) == (127,) * 3


def test_a_photograph_stands_upright() -> None:
    image = Image.new("RGB", (4, 3), WHITE)
    tags = Image.Exif()
    tags[0x0112] = 6  # turned by a quarter
    assert as_vllm_shows(stored(image, "JPEG", exif=tags)).size == (3, 4)
