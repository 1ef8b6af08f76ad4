"""The token ids that an engine in this process would make of a prompt with images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from PIL import Image

from runner.runtimes.shown import as_vllm_shows

# A placeholder's token, and the tokens that stand in its place for each image of a prompt.
Expansions = tuple[int, list[list[int]]]


class ExpectedTokens:
    """Asks a model's processor, twice for each combination of image sizes.

    Asking it each time cost 22 ms a request (the canary, two busy cores), for pixels that only a
    server needs. The number of an image's tokens depends on its size alone, so the tokens of later
    prompts follow from those of their text. What the first prompt shows must hold for the second.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        tokenizer = processor.tokenizer
        self._special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        self._seen: dict[tuple[tuple[int, int], ...], Expansions | None] = {}
        self._first: dict[tuple[tuple[int, int], ...], list[int]] = {}
        self._confirmed: set[tuple[tuple[int, int], ...]] = set()

    def of(self, text: str, images: Sequence[Image.Image]) -> list[int]:
        """The tokens of a prompt, each image at its placeholder."""
        shown = [as_vllm_shows(image) for image in images]
        sizes = tuple(image.size for image in shown)
        plain = list(self._processor.tokenizer(text)["input_ids"])
        seen = self._seen.get(sizes)
        predicted = None
        if seen is not None and plain.count(seen[0]) == len(seen[1]):
            predicted = _expanded(plain, *seen)
            if sizes in self._confirmed:
                return predicted
        whole = list(self._processor(text=[text], images=shown)["input_ids"][0])
        if sizes not in self._seen:
            self._seen[sizes] = _expansions(plain, whole, len(shown), self._special)
            self._first[sizes] = plain
        elif predicted != whole:
            self._seen[sizes] = None
        elif plain != self._first[sizes]:  # the same text confirms nothing
            self._confirmed.add(sizes)
        return whole


def _expanded(plain: Sequence[int], placeholder: int, tokens: Sequence[Sequence[int]]) -> list[int]:
    left = iter(tokens)
    found: list[int] = []
    for token in plain:
        found += next(left) if token == placeholder else [token]
    return found


def _expansions(
    plain: Sequence[int], whole: Sequence[int], images: int, special: Collection[int]
) -> Expansions | None:
    """What the processor made of each placeholder; None if `whole` is not `plain` expanded."""
    for placeholder in dict.fromkeys(plain):
        if placeholder not in special or plain.count(placeholder) != images:
            continue
        tokens = _between(_split(plain, placeholder), whole)
        if tokens is not None and _expanded(plain, placeholder, tokens) == whole:
            return placeholder, tokens
    return None


def _split(plain: Sequence[int], placeholder: int) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for token in plain:
        if token == placeholder:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _between(parts: Sequence[list[int]], whole: Sequence[int]) -> list[list[int]] | None:
    """What lies between the parts, which follow each other in `whole`; at least one token each."""
    first, *others = parts
    if list(whole[: len(first)]) != first:
        return None
    found, begin = [], len(first)
    for number, part in enumerate(others, 1):
        last = number == len(others)
        starts = [len(whole) - len(part)] if last else range(begin + 1, len(whole))
        end = next(
            (n for n in starts if n > begin and list(whole[n : n + len(part)]) == part), None
        )
        if end is None:
            return None
        found.append(list(whole[begin:end]))
        begin = end + len(part)
    return found
