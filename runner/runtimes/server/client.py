"""Requests to a server: sent from one thread, retried, and each answer matched to its request."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
import httpx

from runner.runtimes.server.endpoint import (
    Endpoint,
    ServerError,
    certificate_problem,
    own_words,
)
from runner.runtimes.server.retries import (
    TIMEOUT,
    Failed,
    Patience,
    answered_badly,
    connection_failed,
)

T = TypeVar("T")
# Reads a complete answer; its second argument is the id of the request.
Read = Callable[[Any, str], T]
END_OF_STREAM = "[DONE]"
# Headers of an answer that are read; its content is no longer encoded as others may say.
KEPT = ("Retry-After",)


class Rejected(Exception):
    """The server understood a request and rejected it (4xx)."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"HTTP {response.status_code}: {own_words(response)}")
        self.response = response


class Client:
    """Sends requests, `connections` at a time, from a thread with an event loop.

    `note` is called with each failed attempt.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connections: int,
        patience: Patience,
        note: Callable[[Failed], None],
    ) -> None:
        self._endpoint = endpoint
        self._patience = patience
        self._note = note
        self._session = secrets.token_hex(6)
        self._sent = 0
        self._echoes_ids = False
        self._room = asyncio.Semaphore(connections)
        self._connections = connections
        self._http: aiohttp.ClientSession | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the client's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def ask(
        self, url: str, fields: Mapping[str, Any], read: Read[T], *, identified: bool
    ) -> T:
        """Post a request until `read` accepts its answer, and return what `read` returns.

        `read` raises `Failed` for an answer that is worth another attempt. With `identified`, the
        request has an id that vLLM repeats in its answer.

        Raises:
            Rejected: if the server rejects the request.
            UserError: if its certificate is not trusted.
            ServerError: if it keeps failing.
        """
        self._sent += 1
        number = self._sent
        try:
            async with self._room:
                return await self._patience.retrying(self._note)(
                    self._attempt, url, fields, read, number, identified
                )
        except Failed as failed:
            self._note(failed)
            raise ServerError(f"{self._endpoint.place}: gave up: {failed}") from failed

    async def first_token(
        self, url: str, fields: Mapping[str, Any], is_token: Callable[[Any], bool]
    ) -> float | None:
        """Post a request for a stream; return the seconds until its first token. Not retried.

        Returns None if the server does not answer with a stream that has a token.

        Raises:
            aiohttp.ClientError: if the connection fails.
            ValueError: if an event is not JSON.
        """
        seconds = None
        async with self._room:
            since = time.monotonic()
            async with self._connected().post(
                url, json=dict(fields), allow_redirects=False
            ) as response:
                async for line in response.content:
                    name, _, event = line.decode().partition(":")
                    if seconds is None and name == "data" and event.strip() != END_OF_STREAM:
                        now = time.monotonic()
                        seconds = now - since if is_token(json.loads(event)) else None
        return seconds

    def check_id(self, told: Any, name: str) -> None:
        """Reject an answer to another request by the id that it tells, if any.

        Proxies and other servers may use ids of their own, or none; then nothing can be said.
        """
        found = str(told)
        echoed = found.endswith(name)
        if not echoed and (self._echoes_ids or self._session in found):
            raise Failed("wrong id", f"the server answered request {found} instead of {name}")
        self._echoes_ids = self._echoes_ids or echoed

    def close(self) -> None:
        """End the thread. Requests must have ended."""
        if self._http is not None:
            self.start(self._http.close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _connected(self) -> aiohttp.ClientSession:
        """The connections, which belong to this thread's event loop."""
        if self._http is None:
            self._http = self._endpoint.session(self._connections, self._patience.request_s)
        return self._http

    async def _attempt(
        self, url: str, fields: Mapping[str, Any], read: Read[T], number: int, identified: bool
    ) -> T:
        """Ask once. Each attempt has an id of its own, so that no late answer is taken for it."""
        name = f"{self._session}-{number}-{secrets.token_hex(3)}"
        body = {**fields, "request_id": name} if identified else fields
        try:
            async with self._connected().post(
                url,
                data=json.dumps(body).encode(),
                headers={"Content-Type": "application/json", "X-Request-Id": name},
                allow_redirects=False,
            ) as response:
                content = await response.read()
        except aiohttp.ClientError as error:
            if certificate_problem(error):
                raise self._endpoint.unreachable(error) from error
            raise connection_failed(error) from error
        except asyncio.TimeoutError:
            limit = self._patience.request_s
            raise Failed(TIMEOUT, f"no complete answer within {limit:g} s") from None
        if response.status != HTTPStatus.OK:
            answer = httpx.Response(
                response.status,
                headers={each: response.headers[each] for each in KEPT if each in response.headers},
                content=content,
                request=httpx.Request("POST", url),
            )
            raise answered_badly(answer) or Rejected(answer)
        try:
            return read(json.loads(content), name)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Failed("broken answer", f"truncated or invalid answer: {error}") from error
