"""An OpenAI-compatible server on loopback that misbehaves on request.

It speaks HTTP itself, so that it can end connections in the middle of an answer. A text prompt is a
list of token ids, and its answer are the ids in reverse: an answer that went astray is noticed.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

MODEL = "made-up"
LONGEST = 64
KEY = "sesame"

STREAM = b"""\
data: {"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": null}]}

data: {"choices": [{"index": 0, "text": "a", "finish_reason": "length"}]}

data: [DONE]

"""
METRICS = """\
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{{engine="0",model_name="made-up"}} {first}
vllm:generation_tokens_total{{engine="1",model_name="made-up"}} {second}
"""


@dataclass
class Exchange:
    """A request and the connection that its answer goes to."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter
    tells_tokens: bool = False

    @property
    def prompt(self) -> list[int]:
        if "prompt" in self.body:
            prompt = self.body["prompt"]
            return list(prompt.encode()) if isinstance(prompt, str) else list(prompt)
        return [len(json.dumps(self.body["messages"])) % 1000, 1, 2]

    def answer(self, **changed: Any) -> dict[str, Any]:
        """The right answer, with some fields changed."""
        chat = "messages" in self.body
        tokens = self.prompt[::-1]
        steps = [{f"token_id:{token}": -0.5, f"token_id:{token + 1}": -1.5} for token in tokens]
        spelled = [f"token_id:{token}" for token in tokens]
        text = " ".join(map(str, tokens))
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "token_ids": tokens}
        found: dict[str, Any] = {
            "id": ("chatcmpl-" if chat else "cmpl-") + self.body.get("request_id", "theirs"),
            "model": self.body["model"],
            "system_fingerprint": "made-up-1",
            "choices": [choice],
        }
        if chat:
            found["prompt_token_ids"] = self.prompt
            choice["message"] = {"role": "assistant", "content": text}
            choice["logprobs"] = {
                "content": [
                    {
                        "token": own,
                        "logprob": -0.5,
                        "top_logprobs": [
                            {"token": token, "logprob": value} for token, value in step.items()
                        ],
                    }
                    for own, step in zip(spelled, steps, strict=True)
                ]
            }
        else:
            choice |= {"text": text, "prompt_token_ids": self.prompt, "prompt_logprobs": None}
            if isinstance(self.body["prompt"], str) and not self.tells_tokens:
                del choice["prompt_token_ids"]
            if self.body.get("prompt_logprobs") is not None:
                choice["prompt_logprobs"] = [
                    None,
                    *({str(token): {"logprob": -2.0, "rank": 3}} for token in self.prompt[1:]),
                ]
            choice["logprobs"] = {
                "tokens": spelled,
                "token_logprobs": [-0.5] * len(steps),
                "top_logprobs": steps,
            }
        return {**found, **changed}

    async def send(
        self, status: int, body: bytes, *, length: int | None = None, **headers: str
    ) -> None:
        lines = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body) if length is None else length),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(head.encode() + b"\r\n" + body)
        await self.writer.drain()


Fault = Callable[[Exchange], Awaitable[None]]


def status(code: int, words: str = "", **headers: str) -> Fault:
    """An error answer in vLLM's form."""

    async def fault(exchange: Exchange) -> None:
        error = {"error": {"message": words, "type": "Error", "code": code}}
        await exchange.send(code, json.dumps(error).encode(), **headers)

    return fault


async def reset(exchange: Exchange) -> None:
    """Half an answer, then the end of the connection."""
    body = json.dumps(exchange.answer()).encode()
    await exchange.send(200, body[: len(body) // 2], length=len(body))
    exchange.writer.transport.abort()


async def never(exchange: Exchange) -> None:
    """An answer that goes on and on."""
    await exchange.send(200, b"{", length=10**9)
    while not exchange.writer.is_closing():
        exchange.writer.write(b" ")
        await asyncio.sleep(0.02)


async def truncated(exchange: Exchange) -> None:
    """JSON that ends too early, in a complete HTTP answer."""
    await exchange.send(200, json.dumps(exchange.answer()).encode()[:-40])


async def aborted(exchange: Exchange) -> None:
    """What vLLM answers for requests in flight when it is stopped."""
    answer = exchange.answer()
    answer["choices"][0]["finish_reason"] = "abort"
    await exchange.send(200, json.dumps(answer).encode())


def changed(**fields: Any) -> Fault:
    """The right answer but for some fields."""

    async def fault(exchange: Exchange) -> None:
        await exchange.send(200, json.dumps(exchange.answer(**fields)).encode())

    return fault


class Swapped:
    """Gives two requests each other's answers."""

    def __init__(self) -> None:
        self._first: asyncio.Future[Exchange] | None = None
        self._second: asyncio.Future[Exchange] | None = None

    async def __call__(self, exchange: Exchange) -> None:
        if self._first is None or self._second is None:
            loop = asyncio.get_running_loop()
            self._first, self._second = loop.create_future(), loop.create_future()
            self._first.set_result(exchange)
            other = await self._second
        else:
            self._second.set_result(exchange)
            other = await self._first
        await exchange.send(200, json.dumps(other.answer()).encode())


@dataclass
class MisbehavingServer:
    """The server, in a thread. The next requests for answers meet one of `faults` each.

    `always` is the fault of all others; `page` is sent instead of the list of models. `requests`
    counts what was asked by path, `largest` the most requests at a time. Streams are apart from all
    of this: each of `streamed` gets the events in `stream`.
    """

    faults: deque[Fault] = field(default_factory=deque)
    always: Fault | None = None
    page: bytes | None = None
    lists_models: bool = True
    owner: str | None = "vllm"
    # Whether it tells the tokens that it makes of a text: no tokenizer has made them.
    tells_tokens: bool = False
    tls: ssl.SSLContext | None = None
    delay_s: float = 0.0
    port: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    streamed: list[dict[str, Any]] = field(default_factory=list)
    stream: bytes | None = STREAM
    connections: int = 0
    largest: int = 0
    _now: int = 0

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/v1"

    def start(self) -> MisbehavingServer:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def stop(self) -> None:
        """End all connections in mid-answer, and refuse new ones."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while request := await reader.readline():
                path = request.decode().split()[1]
                headers = {}
                while line := (await reader.readline()).decode().strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                self.headers.append(headers)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                said = json.loads(body) if body else {}
                await self._answer(Exchange(path, headers, said, writer, self.tells_tokens))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, exchange: Exchange) -> None:
        if exchange.body.get("stream"):
            await self._stream(exchange)
            return
        self.requests[exchange.path] += 1
        if exchange.path == "/version":
            await exchange.send(200, b'{"version": "0.0.1"}')
        elif exchange.path == "/metrics":
            done = 10 * self.requests["/v1/completions"]
            await exchange.send(200, METRICS.format(first=done, second=done + 1).encode())
        elif self.page is not None:
            await exchange.send(200, self.page)
        elif exchange.headers.get("authorization") != f"Bearer {KEY}":
            await status(401, "Unauthorized")(exchange)
        elif exchange.path == "/v1/models" and self.lists_models:
            card = {"id": MODEL, "max_model_len": LONGEST, "owned_by": self.owner, "root": "/w"}
            await exchange.send(200, json.dumps({"data": [card]}).encode())
        elif exchange.path in ("/v1/completions", "/v1/chat/completions"):
            await self._complete(exchange)
        else:
            await status(404, "Not Found")(exchange)

    async def _stream(self, exchange: Exchange) -> None:
        self.streamed.append(exchange.body)
        if self.stream is None:
            await never(exchange)
        else:
            await exchange.send(200, self.stream, Content_Type="text/event-stream")

    async def _complete(self, exchange: Exchange) -> None:
        self.bodies.append(exchange.body)
        self._now += 1
        self.largest = max(self.largest, self._now)
        try:
            await asyncio.sleep(self.delay_s)
            fault = self.faults.popleft() if self.faults else self.always
            if fault is not None:
                await fault(exchange)
            elif exchange.body["model"] != MODEL:
                await status(404, f"The model `{exchange.body['model']}` does not exist.")(exchange)
            else:
                await exchange.send(200, json.dumps(exchange.answer()).encode())
        finally:
            self._now -= 1
