"""A conversation and the prompt that a chat template makes of it: is everything in it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from runner.errors import UserError

# What lm-eval's classes for images write where an image goes.
PLACEHOLDER = "<image>"


@dataclass(frozen=True)
class Rendered:
    """A rendered prompt, the roles of messages missing from it, its count of image placeholders."""

    prompt: str
    lost: tuple[str, ...]
    placeholders: int


def render(
    template: Callable[..., str], history: list[dict[str, Any]], add_generation_prompt: bool
) -> Rendered:
    """Apply lm-eval's `apply_chat_template` to messages of text.

    A template that accepts no system message gets the others, as lm-eval does it for text.

    Raises:
        UserError: with the template's own reason for not rendering the conversation.
    """
    # lm-eval's classes for images put lists of parts in the place of the texts.
    said = [(str(message["role"]), str(message["content"])) for message in history]
    try:
        prompt = template(history, add_generation_prompt=add_generation_prompt)
    except TemplateError as error:
        history = [{"role": role, "content": text} for role, text in said if role != "system"]
        if len(history) == len(said):
            raise UserError(
                f"the model's chat template does not render this conversation: {error}"
            ) from error
        prompt = render(template, history, add_generation_prompt).prompt
    lost = tuple(role for role, text in said if not _is_in(prompt, text))
    return Rendered(prompt, lost, sum(_placeholders(message) for message in history))


def _placeholders(message: dict[str, Any]) -> int:
    """Images that the template was told of."""
    parts = message["content"]
    return 0 if isinstance(parts, str) else sum(part["type"] == "image" for part in parts)


def _is_in(prompt: str, text: str) -> bool:
    """Whether the prompt has the text, white space aside: templates strip it."""
    parts = text.split(PLACEHOLDER)
    if all(part.strip() in prompt for part in parts):
        return True
    bare = "".join(prompt.split())
    return all("".join(part.split()) in bare for part in parts)
