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


def image(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


@pytest.mark.parametrize("around", [(), (7,)])
def test_the_processor_is_asked_twice_for_each_combination_of_sizes(
    around: tuple[int, ...],
) -> None:
    processor = Processor(around)
    tokens, truth = ExpectedTokens(processor), Processor(around)
    asked = [
        ("a#b", [image(20, 10)]),
        ("what # is it", [image(20, 10)]),
        ("#", [image(20, 10)]),
        ("#-#", [image(20, 10), image(30, 20)]),
        ("left # right #!", [image(20, 10), image(30, 20)]),
        ("left # right #!", [image(30, 20), image(20, 10)]),
        ("once # more #", [image(20, 10), image(30, 20)]),
    ]
    for text, images in asked:
        assert tokens.of(text, images) == truth([text], images)["input_ids"][0]
    assert processor.calls == 5  # twice, twice, and once for the other order


def test_what_the_second_prompt_does_not_confirm_is_asked_every_time() -> None:
    """As if the number of tokens depended on more than the size."""

    class Moody(Processor):
        def __call__(self, text: list[str], images: list[Image.Image]) -> Any:
            found = super().__call__(text, images)
            found["input_ids"][0] += [IMAGE] * self.calls
            return found

    processor = Moody()
    tokens = ExpectedTokens(processor)
    for count in (1, 2, 3, 4):
        assert tokens.of("a#", [image(10, 10)]) == [ord("a"), *[IMAGE] * (count + 1)]
    assert processor.calls == 4


def test_two_images_side_by_side_have_all_their_tokens() -> None:
    processor = Processor()
    tokens = ExpectedTokens(processor)
    for text in ("##", "a##"):
        images = [image(20, 10), image(30, 10)]
        assert tokens.of(text, images) == Processor()([text], images)["input_ids"][0]
