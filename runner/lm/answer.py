"""An engine's answer to one request, in the same form for every engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

TOO_LONG = "prompt_too_long"


@dataclass(frozen=True)
class Source:
    """What a server told with an answer. It stays with the answer if another run takes that over.

    `model` and `fingerprint` are those of the engine that answered. `different` says how the server
    tokenised the prompt differently than an engine in the worker would; `unverified` that it did
    not tell. `shortened` marks an answer that ended at a token limit below the requested one,
    `reasoned` one whose reasoning the server returned apart.
    """

    model: str
    fingerprint: str
    different: str = ""
    unverified: bool = False
    shortened: bool = False
    reasoned: bool = False


@dataclass(frozen=True)
class Answer:
    """An engine's answer to one request: generated text, or the score of a given text.

    `text` is the generated text, and `reasoning` what a server took out of its beginning. If the
    request scored a given text instead, `scored` is that text's log-likelihood, `greedy` says
    whether the model would have chosen every one of its tokens, and `scored_tokens` is their
    number. `logprobs` and `margins` have one entry per token; log-probabilities are natural
    logarithms. `top` has the likeliest tokens of each step if they were asked for
    (`runner.lm.top`). `finish_reason` is "stop", "length", TOO_LONG or REPLAYED
    (`runner.lm.script`). `seconds` is the time from submitting the request to the engine until its
    last token, and `source` is what a server told with the answer; neither affects equality.
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
    top: str = ""
    reasoning: str = ""
    scored_tokens: int = 0
    source: Source | None = field(default=None, compare=False)

    @property
    def written(self) -> str:
        """The whole text that the model generated."""
        return self.reasoning + self.text


def likelihood(answer: Answer) -> float:
    """Log-likelihood of a scored text, for lm-eval.

    Returns -inf for a text that was too long to be scored, so that it is never the likeliest
    choice.
    """
    return -math.inf if answer.scored is None else answer.scored
