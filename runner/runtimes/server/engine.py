"""A server as an engine: the methods of `vllm.LLM` that the stream needs, over HTTP."""

from __future__ import annotations

import asyncio
import math
import queue
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any

import httpx

from runner.errors import UserError
from runner.runtimes.server.answers import Output, Unreadable, read, too_long
from runner.runtimes.server.client import Client, Rejected
from runner.runtimes.server.endpoint import Endpoint, own_words
from runner.runtimes.server.exchanged import Exchanged
from runner.runtimes.server.pulse import Pulse
from runner.runtimes.server.requests import Request, Requests
from runner.runtimes.server.retries import Failed, Patience
from runner.runtimes.vllm.engine import TOO_LONG_SAID

# Longest time that `step` waits for an answer, so that its caller can report that it is alive.
STEP_S = 1.0
# Longest time that `step` collects answers while enough requests are ready to be sent. What is done
# with each answer, and to prepare the next request, would delay those that are being sent.
COLLECT_S = 0.25
# vLLM's words if the prompt leaves no room for even one token.
NO_ROOM_SAID = ("max_tokens must be at least 1",)

# A request's id, and its output or error.
_Result = tuple[str, Output | Exception]


class ServedEngine:
    """Sends each prompt as a request of its own, from one thread.

    At most `connections` are kept open. `at_once` sets how many requests the server has at a time;
    those beyond it wait here, ready to be sent. So a server that finishes several requests in a
    step gets as many new ones together (docs/performance.md). For the same reason, nothing is sent
    before the first `step`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        requests: Requests,
        *,
        connections: int,
        patience: Patience | None = None,
        stall_s: float = math.inf,
    ) -> None:
        self.exchanged = Exchanged()
        self._endpoint = endpoint
        self._requests = requests
        self._pulse = Pulse(endpoint, stall_s)
        self._asked = 0
        self._done: queue.SimpleQueue[_Result] = queue.SimpleQueue()
        self._late: _Result | None = None
        self._flying: dict[str, Future[None]] = {}
        self.at_once(connections)
        self._client = Client(
            endpoint,
            connections=connections,
            patience=patience or Patience(),
            note=lambda failure: self.exchanged.failed(failure),
        )

    @property
    def llm_engine(self) -> ServedEngine:
        return self

    def at_once(self, window: int) -> None:
        """Let the server have so many requests at a time; none may be in flight now."""
        self._window, self._ready, self._open = window, 0, False
        self._room = asyncio.Semaphore(0)

    def reset_prefix_cache(self) -> None:
        """Make later requests independent of what the server has computed before."""
        self._requests.renew_salt()

    def enqueue(
        self, prompts: Sequence[Any], sampling_params: Any, *, lora_request: Any, use_tqdm: bool
    ) -> list[str]:
        """Send a prompt; returns its id.

        Raises:
            ValueError: with vLLM's words, for a prompt that is too long or has the wrong images.
            UserError: for parameters or prompts that cannot be sent.
        """
        (prompt,) = prompts
        self._asked += 1
        request = self._requests.make(self._asked, prompt, sampling_params, lora_request)
        self.exchanged.asked += 1
        name = str(request.number)
        self._flying[name] = self._client.start(self._answer(request))
        return [name]

    def step(self) -> list[Output]:
        """The outputs of requests that have finished since the last step; waits for one, at most
        a second.

        Raises:
            UserError: if the server rejects a request.
            ServerError: if the server keeps failing, or makes no token within `stall_s`.
        """
        outputs: list[Output] = []
        if not self._open:
            self._client.start(self._begin()).result()
        with suppress(queue.Empty):
            name, result = self._late or self._done.get(timeout=STEP_S if self._flying else 0.0)
            self._late = None
            until = time.monotonic() + COLLECT_S
            while True:
                if name not in self._flying:  # aborted
                    pass
                elif isinstance(result, Output):
                    del self._flying[name]
                    outputs.append(result)
                elif outputs:  # hand these over first: their caller keeps them
                    self._late = name, result
                    break
                else:
                    raise result
                left = until - time.monotonic() if self._ready > self._window else 0.0
                name, result = self._done.get(left > 0, left)
        if outputs or not self._flying:
            self._pulse.answered()
        else:
            self._pulse.waited()
        return outputs

    def abort_request(self, request_ids: Sequence[str], internal: bool = False) -> None:
        """Close the requests' connections, whereupon vLLM stops computing them."""
        for name in request_ids:
            if (future := self._flying.pop(name, None)) is not None:
                future.cancel()

    def close(self) -> None:
        """End all requests and the thread."""
        self.abort_request(list(self._flying))
        self._client.close()

    async def _begin(self) -> None:
        """Let requests be sent."""
        self._open = True
        for _ in range(self._window):
            self._room.release()

    async def _answer(self, request: Request) -> None:
        result: Output | Exception
        self._ready += 1
        try:
            await self._room.acquire()
        finally:
            self._ready -= 1
        try:
            url = self._endpoint.api(request.path)
            await self.exchanged.first_tokens.time(self._client, url, request.body)
            since = time.monotonic()
            output = await self._asked_for(request)
            result = replace(output, seconds=time.monotonic() - since)
            if output.source is not None:  # else the prompt was too long
                self.exchanged.took(result)
        except Exception as error:
            result = error
        finally:
            self._room.release()
        self._done.put((str(request.number), result))

    async def _asked_for(self, request: Request) -> Output:
        try:
            return await self._ask(request, request.body)
        except Rejected as rejected:
            if not _says_too_long(rejected.response):
                raise self._refusal(request, rejected) from rejected
        if not request.chat:
            return too_long(str(request.number))
        # vLLM 0.23 also rejects prompts that leave no room for all of max_tokens. Without a limit
        # the answer fills the room, as it does in an engine in this process.
        try:
            return await self._ask(request, {**request.body, "max_tokens": None})
        except Rejected as rejected:
            if not _says_too_long(rejected.response):
                raise self._refusal(request, rejected) from rejected
            return too_long(str(request.number))

    async def _ask(self, request: Request, body: dict[str, Any]) -> Output:
        return await self._client.ask(
            self._endpoint.api(request.path),
            body,
            partial(self._output, request),
            identified=self._requests.facts.vllm,
        )

    def _refusal(self, request: Request, rejected: Rejected) -> UserError:
        models = [model.id for model in self._requests.facts.models]
        return self._endpoint.refusal(rejected.response, request.body["model"], models)

    def _output(self, request: Request, answer: Any, name: str) -> Output:
        """The output in a complete answer, if it is the answer to this request."""
        self._client.check_id(answer.get("id"), name)
        try:
            output = read(
                answer, str(request.number), chat=request.chat, detokenize=request.detokenize
            )
        except Unreadable as error:
            raise Failed("broken answer", str(error)) from error
        if not request.chat and output.prompt_token_ids not in (None, request.body["prompt"]):
            raise Failed("wrong prompt", "the server answered another prompt than was sent")
        if request.body.get("prompt_logprobs") is not None and output.prompt_logprobs is None:
            raise UserError(
                f"{self._endpoint.place}: the server tells no log-probabilities of prompts, so it "
                "cannot score given texts (loglikelihood)"
            )
        return replace(output, source=self.exchanged.received(request, answer, output))


def _says_too_long(response: httpx.Response) -> bool:
    if response.status_code not in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        return False
    said = own_words(response)
    return any(words in said for words in (*TOO_LONG_SAID, *NO_ROOM_SAID))
