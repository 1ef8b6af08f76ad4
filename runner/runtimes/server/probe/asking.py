"""Asks a server, one request at a time or many at once, and finds out what it supports."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from runner.errors import UserError
from runner.runtimes.server.client import Client, Rejected
from runner.runtimes.server.endpoint import CHAT, COMPLETIONS, Endpoint, ServerError
from runner.runtimes.server.messages import data_url
from runner.runtimes.server.probe.reply import Reply, read_reply
from runner.runtimes.server.retries import Failed, Patience
from runner.runtimes.server.server import ServerFacts

T = TypeVar("T")

# A probe takes seconds: a server that is restarting is not waited for.
PATIENCE = Patience(attempts=3, stall_s=15.0, request_s=120.0)
GREEDY = {"temperature": 0.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
# Enough for several tokens that are almost equally likely, and as many as OpenAI's API allows.
LOGPROBS = 5

Messages = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Request:
    """A prompt: the messages of a conversation, or a text to be continued.

    Requests with the same `salt` share vLLM's prefix cache; no other requests do. `fields` are
    more fields of the HTTP request.
    """

    prompt: str | Messages
    max_tokens: int
    salt: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chat(self) -> bool:
        return not isinstance(self.prompt, str)


def from_user(text: str, image: Any = None) -> Messages:
    """A conversation of one message, with an image before the text."""
    if image is None:
        return ({"role": "user", "content": text},)
    shown = {"type": "image_url", "image_url": {"url": data_url(image)}}
    return ({"role": "user", "content": [shown, {"type": "text", "text": text}]},)


def salt() -> str:
    """A new salt: requests with it start with a cold prefix cache."""
    return secrets.token_hex(16)


class Asker:
    """Sends requests to one model of a server, greedy.

    `chat` and `completion` say which of the two APIs the server has, `logprobs` whether it tells
    log-probabilities. `retried` counts failed attempts by kind, `served` the models and
    fingerprints in the answers, `asked` all requests.
    """

    def __init__(self, endpoint: Endpoint, facts: ServerFacts, concurrency: int) -> None:
        self.vllm = facts.vllm
        self.concurrency = concurrency
        self.asked = 0
        self.retried: Counter[str] = Counter()
        self.served: Counter[tuple[str | None, str | None]] = Counter()
        self._endpoint = endpoint
        self._model = facts.model.id
        self._models = [model.id for model in facts.models]
        self._client = Client(endpoint, connections=concurrency, patience=PATIENCE, note=self._note)
        self._logprobs: dict[bool, bool] = {}

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    @property
    def chat(self) -> bool:
        return True in self._logprobs

    @property
    def completion(self) -> bool:
        return False in self._logprobs

    @property
    def logprobs(self) -> bool:
        return all(self._logprobs.values())

    def settle(self) -> None:
        """Find out which APIs the server has.

        Raises:
            UserError: if it rejects every kind of request.
        """
        rejected: Rejected | None = None
        for prompt in (from_user("Hello"), "Hello"):
            request = Request(prompt, 1)
            for logprobs in (True, False):
                self._logprobs[request.chat] = logprobs
                try:
                    reply = self.alone(request)
                except Rejected as error:
                    rejected = error
                    del self._logprobs[request.chat]
                    if error.response.status_code in (
                        HTTPStatus.UNAUTHORIZED,
                        HTTPStatus.FORBIDDEN,
                    ):
                        break
                else:
                    self._logprobs[request.chat] = bool(reply.logprobs)
                    break
        if rejected is not None and not self._logprobs:
            raise self.refusal(rejected)

    def refusal(self, rejected: Rejected) -> UserError:
        """The user's error behind a rejected request."""
        return self._endpoint.refusal(rejected.response, self._model, self._models)

    def takes_images(self, text: str, image: Any) -> bool:
        """Whether the server answers a question with an image."""
        if not self.chat:
            return False
        with suppress(Rejected, ServerError):
            self.alone(Request(from_user(text, image), 1))
            return True
        return False

    def alone(self, request: Request) -> Reply:
        """The answer to a request that is sent by itself.

        Raises:
            Rejected: if the server rejects it.
            UserError, ServerError: as `Client.ask`.
        """
        return self._run(self._ask(request))

    def together(self, requests: Sequence[Request]) -> list[Reply]:
        """The answers to requests that are sent at the same time, `concurrency` at a time.

        Raises:
            Rejected, UserError, ServerError: if a request fails, after all have ended.
        """

        async def all_of_them() -> list[Reply | BaseException]:
            return await asyncio.gather(*map(self._ask, requests), return_exceptions=True)

        replies = []
        for reply in self._run(all_of_them()):
            if isinstance(reply, BaseException):
                raise reply
            replies.append(reply)
        return replies

    def own(self, path: str, fields: Mapping[str, Any], read: Callable[[Any], T]) -> T | None:
        """What one of vLLM's own paths answers; None if the server does not have it."""
        with suppress(Rejected, ServerError):
            return self._run(
                self._client.ask(
                    self._endpoint.root(path),
                    {"model": self._model, **fields},
                    lambda answer, name: read(answer),
                    identified=False,
                )
            )
        return None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = self._client.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _ask(self, request: Request) -> Reply:
        self.asked += 1
        reply = await self._client.ask(
            self._endpoint.api(CHAT if request.chat else COMPLETIONS),
            self._fields(request),
            partial(self._read, request),
            identified=self.vllm,
        )
        self.served[reply.model, reply.fingerprint] += 1
        return reply

    def _fields(self, request: Request) -> dict[str, Any]:
        chat = request.chat
        fields: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.max_tokens,
            "messages" if chat else "prompt": request.prompt,
            **GREEDY,
        }
        if self._logprobs[chat]:
            shown = {"logprobs": True, "top_logprobs": LOGPROBS}
            fields |= shown if chat else {"logprobs": LOGPROBS}
        if self.vllm:
            # Otherwise the model's generation_config.json decides.
            fields |= {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
            fields |= {"return_token_ids": True, "return_tokens_as_token_ids": True}
            fields["cache_salt"] = request.salt or salt()
        return {**fields, **request.fields}

    def _read(self, request: Request, answer: Any, name: str) -> Reply:
        misrouted = False
        try:
            self._client.check_id(answer.get("id"), name)
        except Failed:
            # Retried in an evaluation; here it is what was looked for.
            misrouted = True
        try:
            return read_reply(answer, chat=request.chat, misrouted=misrouted)
        except (IndexError, AttributeError) as error:
            raise ValueError(f"not an answer of the API: {error}") from error

    def _note(self, failed: Failed) -> None:
        self.retried[failed.kind] += 1
