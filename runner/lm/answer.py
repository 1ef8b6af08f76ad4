"""What an engine returned for one request, whatever the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

TOO_LONG = "prompt_too_long"


@dataclass(frozen=True)
class Answer:
    """Log-probabilities are natural logarithms; `finish_reason` is stop, length or TOO_LONG.

    `text` is what was generated; where a given text was scored instead, `scored` is its
    log-likelihood, and `greedy` says whether the model would have chosen every token of it.
    `seconds` passed from when the engine got the request to its last token; answers that took
    another time are equal.
    """

    prompt_tokens: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    margins: tuple[float, ...]
    finish_reason: str
    text: str = ""
    scored: float | None = None
    greedy: bool = False
    seconds: float | None = field(default=None, compare=False)


def likelihood(answer: Answer) -> float:
    """The log-likelihood of a text, for lm-eval; of one that was too long to be scored, the least
    there is, so that no such choice is taken for the likeliest."""
    return -math.inf if answer.scored is None else answer.scored
