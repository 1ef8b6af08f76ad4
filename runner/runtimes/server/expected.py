"""The token ids that an engine in this process would make of a prompt with images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from runner.runtimes.shown import as_vllm_shows


@dataclass(frozen=True)
class Expected:
    """The token ids that a prompt should have.

    `tokens` may have been counted; then `exact` returns the processor's own.
    """

    tokens: Sequence[int]
    exact: Callable[[], Sequence[int]] | None = None

    def beside(self, found: Sequence[int]) -> list[int]:
        """The tokens; the processor's own if the counted ones differ from those found."""
        if self.exact is None or list(self.tokens) == list(found):
            return list(self.tokens)
        return list(self.exact())


class ExpectedTokens:
    """Counts the tokens of images by their sizes where the processor can.

    To process the pixels, which only a server needs, took 12 ms for each prompt of the canary and
    all of a core; transformers offers the count to engines that plan ahead.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def of(self, text: str, images: Sequence[Image.Image]) -> Expected:
        """The tokens of a prompt, each image at its placeholder."""
        shown = [as_vllm_shows(image) for image in images]
        exact = partial(self._exact, text, shown)
        counted = self._counted(text, [(image.height, image.width) for image in shown])
        return Expected(exact()) if counted is None else Expected(counted, exact)

    def _exact(self, text: str, shown: Sequence[Image.Image]) -> list[int]:
        return list(self._processor(text=[text], images=shown)["input_ids"][0])

    def _counted(self, text: str, sizes: Sequence[tuple[int, int]]) -> list[int] | None:
        """None if the processor does not count, or the text has not one placeholder an image."""
        try:
            placeholder = self._processor.image_token_id
            counts = self._processor._get_num_multimodal_tokens(image_sizes=sizes)
            numbers = list(counts["num_image_tokens"])
        except (AttributeError, KeyError, TypeError, ValueError, NotImplementedError):
            return None
        plain = list(self._processor.tokenizer(text)["input_ids"])
        if plain.count(placeholder) != len(numbers):
            return None
        left = iter(numbers)
        found: list[int] = []
        for token in plain:
            found += [token] * (next(left) if token == placeholder else 1)
        return found
