"""The tokenizer and chat template of a local model, or of one on a hub. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runner.errors import UserError


def load(name: str) -> LocalModel:
    """The model of a directory or hub id.

    Raises:
        UserError: if the tokenizer cannot be loaded.
    """
    from transformers import AutoConfig, AutoTokenizer

    place = str(Path(name).resolve()) if Path(name).exists() else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
    except Exception as error:
        first, *_ = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{name}: its tokenizer cannot be loaded: {first}") from error
    longest: int | None = None
    with suppress(Exception):  # a model that transformers does not know
        longest = AutoConfig.from_pretrained(place).get_text_config().max_position_embeddings
    return LocalModel(name, tokenizer, longest)


class LocalModel:
    """A model's tokenizer. `longest` is the model's own limit in tokens, None if unknown."""

    def __init__(self, name: str, tokenizer: Any, longest: int | None = None) -> None:
        self.name, self.longest = name, longest
        self._tokenizer = tokenizer

    def vocabulary(self) -> list[int]:
        """All token ids in their order, those of special tokens included."""
        return sorted(set(self._tokenizer.get_vocab().values()))

    def ids(self, text: str) -> tuple[int, ...]:
        """The tokens of a text as a prompt, with the special tokens that the tokenizer adds."""
        return tuple(self._tokenizer(text)["input_ids"])

    def chat_ids(self, messages: Sequence[Mapping[str, str]]) -> list[tuple[int, ...]]:
        """The tokens of a conversation; none if the template rejects it.

        A template takes a message's content as text or as a list of parts, and may misread the
        other form without an error. Servers guess the form, so both results are returned.

        Raises:
            LookupError: if there is no chat template.
        """
        if not self._tokenizer.chat_template:
            raise LookupError(self.name)
        in_parts = [
            {**each, "content": [{"type": "text", "text": each["content"]}]} for each in messages
        ]
        found = []
        for form in (list(messages), in_parts):
            with suppress(Exception):  # raise_exception in the template, or a wrong form
                text = self._tokenizer.apply_chat_template(
                    form, tokenize=False, add_generation_prompt=True
                )
                found.append(tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"]))
        return found

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens, special tokens included."""
        return str(self._tokenizer.decode(list(ids)))
