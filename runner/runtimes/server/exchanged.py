"""Counts what went to a server and what came back."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.language import N_
from runner.lm.answer import Answer, Source
from runner.runtimes.server.answers import Output
from runner.runtimes.server.requests import Request
from runner.runtimes.server.retries import Failed
from runner.runtimes.server.streaming import FirstTokens


@dataclass
class Exchanged:
    """Counts what was sent and what came back, and what was told with answers of earlier attempts.

    `retried` counts failures by kind. `different` counts prompts that the server tokenised
    differently, `first_difference` describes the first, and `unverified` counts prompts whose
    tokens the server did not tell. `shortened` counts answers that ended at a token limit below the
    requested one, `reasoned` those whose reasoning the server returned apart. `served` counts the
    model and fingerprint in each answer, and `missing` the parts that answers lacked. `seconds` are
    the times from a request to its complete answer, retries included, and `speeds` the tokens per
    second of answers that have several tokens.
    """

    asked: int = 0
    answered: int = 0
    retried: Counter[str] = field(default_factory=Counter)
    different: int = 0
    first_difference: str = ""
    unverified: int = 0
    shortened: int = 0
    reasoned: int = 0
    served: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    seconds: array[float] = field(default_factory=lambda: array("d"))
    speeds: array[float] = field(default_factory=lambda: array("d"))
    first_tokens: FirstTokens = field(default_factory=FirstTokens)

    def failed(self, failure: Failed) -> None:
        """Count an attempt that failed."""
        self.retried[failure.kind] += 1

    def took(self, output: Output) -> None:
        """Count the time that an answer took."""
        self.seconds.append(output.seconds)
        tokens = output.outputs[0].length
        if tokens > 1:
            self.speeds.append(tokens / output.seconds)

    def received(self, request: Request, answer: dict[str, Any], output: Output) -> Source:
        """Count a complete answer, and return what the server told with it."""
        completion = output.outputs[0]
        written = completion.reasoning or completion.text
        self.answered += 1
        if not completion.token_ids and written:
            self.missing[N_("token ids")] += 1
        if request.body.get("logprobs") and completion.logprobs is None and written:
            self.missing[N_("log-probabilities")] += 1
        expected, found = request.expected, output.prompt_token_ids
        different = ""
        if expected is not None and found is not None:
            tokens = expected.beside(found)
            different = _difference(tokens, found) if tokens != list(found) else ""
        source = Source(
            str(answer.get("model")),
            str(answer.get("system_fingerprint")),
            different=different,
            unverified=expected is None or found is None,
            shortened=_is_short(request, output),
            reasoned=bool(completion.reasoning),
        )
        self._told(source)
        return source

    def taken_over(self, answer: Answer) -> None:
        """Count what was told with an answer of an earlier attempt."""
        if answer.source is not None:
            self._told(answer.source)

    def _told(self, source: Source) -> None:
        self.served[source.model, source.fingerprint] += 1
        self.unverified += source.unverified
        self.shortened += source.shortened
        self.reasoned += source.reasoned
        self.different += bool(source.different)
        self.first_difference = self.first_difference or source.different


def _is_short(request: Request, output: Output) -> bool:
    """Whether the answer ended at a limit that is neither the requested one nor the context."""
    completion, asked = output.outputs[0], request.body["max_tokens"]
    if completion.finish_reason != "length" or asked is None or not completion.token_ids:
        return False
    length = len(completion.token_ids)
    whole = len(output.prompt_token_ids or ()) + length
    return length < asked and (request.longest is None or whole < request.longest)


def _difference(sent: Sequence[int], found: Sequence[int]) -> str:
    pairs = zip(sent, found, strict=False)
    place = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(sent), len(found)))
    return (
        f"{len(found)} tokens instead of {len(sent)}, different from token {place + 1} on: "
        f"{list(found[place : place + 5])} instead of {list(sent[place : place + 5])}"
    )
