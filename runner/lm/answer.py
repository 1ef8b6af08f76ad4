"""What an engine returned for one request, whatever the engine."""

from __future__ import annotations

from dataclasses import dataclass

TOO_LONG = "prompt_too_long"


@dataclass(frozen=True)
class Answer:
    """Log-probabilities are natural logarithms; `finish_reason` is stop, length or TOO_LONG."""

    prompt_tokens: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    margins: tuple[float, ...]
    finish_reason: str
