"""The tokens of prompts with images, from those of their text."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from PIL import Image

from runner.runtimes.server.expected import ExpectedTokens

IMAGE = 1_000  # the placeholder's token


class Tokenizer:
    """Tokens are the letters' numbers."""

    all_special_ids = (IMAGE,)
    added_tokens_decoder: ClassVar[dict[int, str]] = {}

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [IMAGE if letter == "#" else ord(letter) for letter in text]}


class Processor:
    """An image has a token for each 10 × 10 pixels, and perhaps others around them."""

    image_token_id = IMAGE

    def __init__(self, around: tuple[int, ...] = ()) -> None:
        self.calls = 0
        self._around = around
        self.tokenizer = Tokenizer()

    def __call__(self, text: list[str], images: list[Image.Image]) -> Any:
        self.calls += 1
        left = iter(images)
        found: list[int] = []
        for token in self.tokenizer(text[0])["input_ids"]:
            if token != IMAGE:
                found.append(token)
                continue
            width, height = next(left).size
            found += [*self._around, *[IMAGE] * (width * height // 100), *self._around]
        return {"input_ids": [found]}


class Counting(Processor):
    def _get_num_multimodal_tokens(self, image_sizes: list[tuple[int, int]]) -> Any:
        return {"num_image_tokens": [height * width // 100 for height, width in image_sizes]}


def image(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


PROMPTS = [
    ("a#b", [image(20, 10)]),
    ("#", [image(20, 10)]),
    ("left # right #!", [image(20, 10), image(30, 20)]),
    ("##", [image(30, 20), image(20, 10)]),
]


@pytest.mark.parametrize(("text", "images"), PROMPTS)
def test_counted_tokens_are_those_of_the_processor(text: str, images: list[Image.Image]) -> None:
    processor = Counting()
    whole = Counting()([text], images)["input_ids"][0]
    expected = ExpectedTokens(processor).of(text, images)
    assert expected.tokens == expected.beside(whole) == whole
    assert processor.calls == 0  # no pixels are processed


@pytest.mark.parametrize(("text", "images"), PROMPTS)
def test_a_processor_that_counts_wrongly_is_asked(text: str, images: list[Image.Image]) -> None:
    whole = Counting((7,))([text], images)["input_ids"][0]
    expected = ExpectedTokens(Counting((7,))).of(text, images)
    assert expected.tokens != whole
    assert expected.beside(whole) == whole
    assert expected.beside([1]) == whole


@pytest.mark.parametrize(("text", "images"), PROMPTS)
def test_a_processor_that_cannot_count_is_asked(text: str, images: list[Image.Image]) -> None:
    whole = Processor((7,))([text], images)["input_ids"][0]
    assert ExpectedTokens(Processor((7,))).of(text, images).tokens == whole


def test_a_text_that_lacks_a_placeholder_is_left_to_the_processor() -> None:
    images = [image(20, 10), image(30, 10)]
    assert ExpectedTokens(Counting()).of("a#", images).tokens == [ord("a"), IMAGE, IMAGE]
