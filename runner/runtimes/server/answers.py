"""Reads a server's answers into the form in which vLLM's own engine gives its outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.lm.answer import TOO_LONG, Source

# vLLM's stand-in for -inf, which JSON cannot express.
LEAST = -9999.0
# How vLLM spells tokens if asked for `return_tokens_as_token_ids`.
TOKEN_ID = "token_id:"
# The engine was stopped, or failed, before the answer was complete.
UNFINISHED = (None, "abort", "error")


class Unreadable(Exception):
    """An answer that is incomplete, or not of the API's form."""


@dataclass(frozen=True)
class Logprob:
    """A token's log-probability, as `vllm.logprobs.Logprob`."""

    logprob: float
    rank: int | None = None


@dataclass(frozen=True)
class Completion:
    """A generated text, as `vllm.CompletionOutput`.

    `length` is its number of tokens, 0 if unknown: some servers tell it without the tokens.
    `reasoning` is the text that the server took out; the tokens include it.
    """

    text: str
    token_ids: Sequence[int]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str
    length: int = 0
    reasoning: str = ""


@dataclass(frozen=True)
class Output:
    """A finished request, as `vllm.RequestOutput`. `prompt_token_ids` is None if unknown.

    `seconds` is the time that the server took for it, retries included, and `source` what it told
    with it. `prompt_length` is the number of the prompt's tokens, 0 if unknown: some servers tell
    it without the tokens.
    """

    request_id: str
    prompt_token_ids: Sequence[int] | None
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: tuple[Completion]
    seconds: float = 0.0
    source: Source | None = None
    prompt_length: int = 0
    finished: bool = True


def too_long(request_id: str) -> Output:
    """The output for a prompt that the server rejects because it exceeds the context."""
    return Output(request_id, None, None, (Completion("", (), None, TOO_LONG),))


def read(answer: Any, request_id: str, *, chat: bool, detokenize: bool) -> Output:
    """The output in a complete answer of `/completions` or `/chat/completions`.

    Raises:
        Unreadable: if the answer is not of the API's form.
    """
    try:
        (choice,) = answer["choices"]
        if choice["finish_reason"] in UNFINISHED:
            raise Unreadable(f"unfinished answer (finish_reason {choice['finish_reason']!r})")
        text = choice["message"]["content"] if chat else choice["text"]
        logprobs = choice.get("logprobs")
        spelled, tokens = (_chat_logprobs if chat else _logprobs)(logprobs or {})
        prompt = answer if chat else choice
        ids = choice.get("token_ids") or spelled
        usage = answer.get("usage") or {}
        return Output(
            request_id,
            prompt.get("prompt_token_ids"),
            _prompt_logprobs(prompt.get("prompt_logprobs")),
            (
                Completion(
                    (text or "") if detokenize else "",
                    ids,
                    tokens,
                    str(choice["finish_reason"]),
                    len(ids) or int(usage.get("completion_tokens") or 0),
                    reasoning_in(choice["message"]) if chat else "",
                ),
            ),
            prompt_length=int(usage.get("prompt_tokens") or 0),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"not an answer of the API: {type(error).__name__}: {error}") from error


def reasoning_in(message: Mapping[str, Any]) -> str:
    """The reasoning that a server took out of a chat answer; empty if it did not."""
    return str(message.get("reasoning") or message.get("reasoning_content") or "")


Steps = tuple[list[int], list[dict[int, Logprob]] | None]


def _logprobs(found: dict[str, Any]) -> Steps:
    """The tokens and log-probabilities of a completion; none if they are not spelled as ids."""
    tokens = found.get("tokens") or []
    if not tokens or not all(token.startswith(TOKEN_ID) for token in tokens):
        return [], None
    steps = [
        {_id(token): Logprob(_value(own))} | {_id(t): Logprob(_value(v)) for t, v in top.items()}
        for token, own, top in zip(
            tokens, found["token_logprobs"], found["top_logprobs"], strict=True
        )
    ]
    return [_id(token) for token in tokens], steps


def _chat_logprobs(found: dict[str, Any]) -> Steps:
    content = found.get("content") or []
    if not content or not all(each["token"].startswith(TOKEN_ID) for each in content):
        return [], None
    steps = [
        {_id(entry["token"]): Logprob(_value(entry["logprob"])) for entry in (each, *others)}
        for each, others in ((each, each["top_logprobs"]) for each in content)
    ]
    return [_id(each["token"]) for each in content], steps


def _prompt_logprobs(
    found: list[dict[str, Any] | None] | None,
) -> list[dict[int, Logprob] | None] | None:
    """The candidates for each token of a prompt; None for its first token, which has none."""
    return (
        None if found is None else [None if each is None else _candidates(each) for each in found]
    )


def _candidates(found: dict[str, Any]) -> dict[int, Logprob]:
    return {
        int(token): Logprob(_value(entry["logprob"]), entry.get("rank"))
        for token, entry in found.items()
    }


def _id(token: str) -> int:
    return int(token.removeprefix(TOKEN_ID))


def _value(logprob: float | None) -> float:
    """A log-probability; NaN for the null of servers that keep to JSON."""
    if logprob is None:
        return math.nan
    return -math.inf if logprob == LEAST else logprob
