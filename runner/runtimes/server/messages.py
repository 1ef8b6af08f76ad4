"""A conversation with images as messages of the chat API."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from runner.lm.conversation import PLACEHOLDER
from runner.runtimes.shown import as_vllm_shows

# Fast: on the way to a server, time matters more than size.
COMPRESSION = 1


def chat_fields(conversation: Sequence[dict[str, Any]], images: Sequence[Any]) -> dict[str, Any]:
    """The request's fields for a conversation in lm-eval's form, with its images in their places.

    A message's content is text with placeholders, or a list of parts as lm-eval gives it to the
    chat template. A last message by the assistant is continued.

    Raises:
        ValueError: if there are more placeholders than images, or fewer, or if an image cannot be
            converted.
    """
    left = iter(images)
    messages = [
        {"role": message["role"], "content": list(_parts(message["content"], left))}
        for message in conversation
    ]
    if next(left, None) is not None:
        raise ValueError(f"the prompt has fewer places for images than its {len(images)} images")
    continued = bool(conversation) and conversation[-1]["role"] == "assistant"
    return {
        "messages": messages,
        "add_generation_prompt": not continued,
        "continue_final_message": continued,
    }


def _parts(content: Any, images: Iterator[Any]) -> Iterator[dict[str, Any]]:
    for part in _split(content) if isinstance(content, str) else content:
        if part["type"] != "image":
            yield {"type": "text", "text": part["text"]}
            continue
        image = next(images, None)
        if image is None:
            raise ValueError("the prompt has more places for images than images")
        yield {"type": "image_url", "image_url": {"url": data_url(image)}}


def _split(text: str) -> Iterator[dict[str, Any]]:
    """The text's parts, as lm-eval's class for images makes them."""
    for number, part in enumerate(text.split(PLACEHOLDER)):
        if number:
            yield {"type": "image"}
        if part:
            yield {"type": "text", "text": part}


def data_url(image: Image.Image) -> str:
    """The image as a PNG in a `data:` URL, with the pixels that vLLM makes of it in-process.

    PNG has no CMYK, and would lose the orientation.
    """
    written = io.BytesIO()
    as_vllm_shows(image).save(written, "PNG", compress_level=COMPRESSION)
    return "data:image/png;base64," + base64.b64encode(written.getbuffer()).decode()
