"""Renders a conversation with a chat template and checks that no message is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from runner.errors import UserError

# The text that lm-eval's classes for images put in place of an image.
PLACEHOLDER = "<image>"


@dataclass(frozen=True)
class Rendered:
    """A rendered prompt, the roles of lost messages, and the number of image placeholders."""

    prompt: str
    lost: tuple[str, ...]
    placeholders: int


def render(
    template: Callable[..., str], history: list[dict[str, Any]], add_generation_prompt: bool
) -> Rendered:
    """Apply lm-eval's `apply_chat_template` to text messages.

    If the template accepts no system message, the conversation is rendered without it, as lm-eval
    does for text.

    Raises:
        UserError: with the template's own reason for not rendering the conversation.
    """
    # Keep the texts: lm-eval's classes for images replace them with lists of parts.
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
    """Number of image parts in a message that was given to the template."""
    parts = message["content"]
    return 0 if isinstance(parts, str) else sum(part["type"] == "image" for part in parts)


def _is_in(prompt: str, text: str) -> bool:
    """Whether the prompt contains the text, ignoring white space, which templates strip."""
    parts = text.split(PLACEHOLDER)
    if all(part.strip() in prompt for part in parts):
        return True
    bare = "".join(prompt.split())
    return all("".join(part.split()) in bare for part in parts)
