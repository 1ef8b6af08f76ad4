"""Notices a server that owes answers and makes no progress."""

from __future__ import annotations

import math
import time

from runner.runtimes.server.endpoint import Endpoint, ServerError
from runner.runtimes.server.server import server_counters

# How often the counters of a silent server are read.
EVERY_S = 15.0
TOKENS = ("vllm:generation_tokens_total", "vllm:prompt_tokens_total")


class Pulse:
    """The time since the last sign of life: an answer, or more tokens by the server's counters.

    A server without counters may generate in silence; there, only the limit of a request applies.
    One that has shown them and shows none any more gives no sign of life.
    """

    def __init__(self, endpoint: Endpoint, stall_s: float) -> None:
        self._endpoint, self._stall_s = endpoint, stall_s
        self._tokens: float | None = None
        self.answered()

    def answered(self) -> None:
        """Record an answer, or that none is owed."""
        self._seen = self._read = time.monotonic()

    def waited(self) -> None:
        """Record a second without an answer.

        Raises:
            ServerError: if the server has made no token for too long.
        """
        now = time.monotonic()
        if self._stall_s == math.inf or now - self._read < min(EVERY_S, self._stall_s):
            return
        self._read = now
        counters = server_counters(self._endpoint)
        shown = counters is not None and any(name in counters for name in TOKENS)
        if not shown and self._tokens is None:
            self._seen = now
            return
        tokens = sum(sum((counters or {}).get(name, {}).values()) for name in TOKENS)
        if shown and tokens != self._tokens:
            self._tokens, self._seen = tokens, now
        elif now - self._seen > self._stall_s:
            raise ServerError(
                f"{self._endpoint.place}: no token within limits.stall_s={self._stall_s:g} seconds"
            )
