"""An answer of a server with whatever it tells of it, and how two answers differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.runtimes.server.answers import LEAST, TOKEN_ID, reasoning_in


@dataclass(frozen=True)
class Reply:
    """An answer. What the server does not tell is empty or None.

    `tokens` are ids where the server tells them, otherwise its spelling of the tokens. `others` are
    the log-probabilities of the likeliest other tokens in the place of each token. `prompt_tokens`
    is the number of the prompt's tokens, `prompt_ids` are the tokens. `misrouted` says that the
    server marked it as the answer to another request.
    """

    text: str
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    others: tuple[Mapping[str, float], ...] = ()
    prompt_ids: tuple[int, ...] | None = None
    prompt_tokens: int | None = None
    model: str | None = None
    fingerprint: str | None = None
    misrouted: bool = False

    def lead(self, place: int, token: str | None) -> float | None:
        """By how many nats the token at a place leads another token; None if unknown.

        The lead over a token that is not among the likeliest is larger than the result. Without a
        token, it is the lead over the runner-up.
        """
        others = self.others[place] if place < len(self.others) else {}
        if not others:
            return None
        if token is None:
            return self.logprobs[place] - max(others.values())
        return self.logprobs[place] - others.get(token, min(others.values()))


@dataclass(frozen=True)
class Change:
    """How an answer differs from an earlier answer to the same request.

    `lead` is that of the earlier answer's first token that differs over the one that replaced it,
    None if nothing differs or if the server tells no log-probabilities. `moves` are the absolute
    differences, in nats, of the log-probabilities of the tokens before it; `broken` counts those
    that are not finite.
    """

    same: bool
    lead: float | None
    moves: tuple[float, ...]
    broken: int = 0


def change(earlier: Reply, later: Reply) -> Change:
    """Compare two answers to the same request, token by token where tokens are known."""
    if not (earlier.tokens and later.tokens):
        return Change(earlier.text == later.text, None, ())
    shared = _shared(earlier.tokens, later.tokens)
    same = shared == len(earlier.tokens) == len(later.tokens)
    token = later.tokens[shared] if shared < len(later.tokens) else None
    lead = None if same else earlier.lead(shared, token)
    moves = [
        abs(a - b) for a, b in zip(earlier.logprobs[:shared], later.logprobs[:shared], strict=False)
    ]
    finite = tuple(each for each in moves if math.isfinite(each))
    return Change(same, lead, finite, len(moves) - len(finite))


def _shared(a: Sequence[str], b: Sequence[str]) -> int:
    """The number of tokens that both begin with."""
    pairs = zip(a, b, strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


def read_reply(answer: Mapping[str, Any], *, chat: bool, misrouted: bool) -> Reply:
    """Read an answer of `/completions` or `/chat/completions`.

    Raises:
        KeyError, IndexError, TypeError, ValueError, AttributeError: if it is not of the API's form.
    """
    (choice,) = answer["choices"]
    steps = list((_chat_steps if chat else _steps)(choice.get("logprobs") or {}))
    ids = choice.get("token_ids")
    told = (answer if chat else choice).get("prompt_token_ids")
    usage = answer.get("usage") or {}
    return Reply(
        text=_chat_text(choice["message"]) if chat else choice["text"],
        tokens=tuple(map(str, ids)) if ids else tuple(token for token, _, _ in steps),
        logprobs=tuple(own for _, own, _ in steps),
        others=tuple(others for _, _, others in steps),
        prompt_ids=None if told is None else tuple(told),
        prompt_tokens=len(told) if told is not None else usage.get("prompt_tokens"),
        model=answer.get("model"),
        fingerprint=answer.get("system_fingerprint"),
        misrouted=misrouted,
    )


def _chat_text(message: Mapping[str, Any]) -> str:
    """The answer with the reasoning before it, which some servers take out."""
    return reasoning_in(message) + str(message["content"] or "")


# A token, its log-probability, and those of others.
_Step = tuple[str, float, dict[str, float]]


def _steps(found: Mapping[str, Any]) -> list[_Step]:
    tokens = found.get("tokens") or []
    top = found.get("top_logprobs") or [{}] * len(tokens)
    return [
        _step(token, own, others or {})
        for token, own, others in zip(tokens, found.get("token_logprobs") or [], top, strict=True)
    ]


def _chat_steps(found: Mapping[str, Any]) -> list[_Step]:
    return [
        _step(
            each["token"],
            each["logprob"],
            {other["token"]: other["logprob"] for other in each.get("top_logprobs") or []},
        )
        for each in found.get("content") or []
    ]


def _step(token: str, own: float | None, top: Mapping[str, float]) -> _Step:
    others = {_name(other): _value(each) for other, each in top.items() if other != token}
    return _name(token), _value(own), others


def _name(token: str) -> str:
    return token.removeprefix(TOKEN_ID)


def _value(logprob: float | None) -> float:
    if logprob is None:
        return math.nan
    return -math.inf if logprob == LEAST else float(logprob)
