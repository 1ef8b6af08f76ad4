"""Times the first token of a few requests, each sent once more as a stream of one token."""

from __future__ import annotations

import asyncio
import secrets
from array import array
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from runner.runtimes.server.client import Client

# Every fourth request for a text at first, later every fourth of the requests before it: 21 of 600,
# most of them after the first window, when the server has its usual load.
EVERY = 4
# Seconds to wait for a stream. Some servers and proxies never begin one.
PATIENCE_S = 60.0
# Fields that a stream of one token does not need, or that contradict it.
LEFT_OUT = ("logprobs", "top_logprobs", "min_tokens", "return_tokens_as_token_ids")


@dataclass
class FirstTokens:
    """Seconds from sending a request to its first token, for a sample of a run's requests.

    The answers of these copies are not used, so no score depends on how a server streams. If the
    connection of one fails, no other is sent.
    """

    seconds: array[float] = field(default_factory=lambda: array("d"))
    _seen: int = 0
    _next: int = 1

    async def time(self, client: Client, url: str, body: Mapping[str, Any]) -> None:
        """Send a copy of the request and time it, if it is one of the sample."""
        if body.get("prompt_logprobs") is not None:
            return  # a text to be scored
        self._seen += 1
        if self._seen != self._next:
            return
        self._next += max(EVERY, self._next // EVERY)
        try:
            found = await asyncio.wait_for(
                client.first_token(url, copied(body), has_token), PATIENCE_S
            )
        except (asyncio.TimeoutError, aiohttp.ClientError, ValueError):
            self._next = 0  # never
        else:
            self.seconds.extend([] if found is None else [found])


def copied(body: Mapping[str, Any]) -> dict[str, Any]:
    """The request for a stream of one token, which shares no prefix cache with the original."""
    found = {name: value for name, value in body.items() if name not in LEFT_OUT}
    if "cache_salt" in found:
        found["cache_salt"] = secrets.token_hex(16)
    return {**found, "max_tokens": 1, "stream": True}


def has_token(event: Any) -> bool:
    """Whether an event of a stream brings a token. The first one of a chat may bring only a role.

    A token without text, such as the end of the answer, shows in the reason to finish.
    """
    with suppress(LookupError, TypeError, AttributeError):
        choice = event["choices"][0]
        said = choice.get("delta") or choice
        texts = ("text", "content", "reasoning", "reasoning_content")
        return any(said.get(name) for name in texts) or choice.get("finish_reason") is not None
    return False
