"""A server on loopback with a made-up model, whose faults can be switched on.

It tokenises like a local model. Its model copies a number of eight digits out of the prompt, or
else answers with words that depend on the prompt alone. Its faults are those of engines and routers
that mix up requests or compute differently under load.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runner.canary import WEIGHTS
from runner.runtimes.server.probe.local import LocalModel, load
from tests.misbehaving_server import KEY, Exchange, MisbehavingServer, status

NAME = "made-up"
WORDS = ("river", "stone", "lantern", "seven", "under", "winter", "copper", "mill", "salt", "glass")
LEAD = 3.0


@dataclass(frozen=True)
class Condition:
    """How a request met the server: with others in flight, and with its prompt cached."""

    busy: bool
    cached: bool
    number: int


@dataclass
class Answer:
    """The model's answer before it is sent."""

    text: str
    tokens: list[int]
    logprobs: list[float]
    lead: float = LEAD


# A fault changes an answer.
Fault = Callable[[Condition, Answer], None]


@dataclass
class AnsweringServer(MisbehavingServer):
    """The server. Without `vllm`, it tells as little as any OpenAI-compatible server.

    `stray` is the share of requests that get the answer of another one in flight, and `misroute`
    says that they also get its id. `fault` changes every answer that it likes. `names` are the
    models that answers come from, in turn.
    """

    model: LocalModel = field(default_factory=lambda: load(str(WEIGHTS)))
    vllm: bool = True
    copies: bool = True
    chats: bool = True
    completes: bool = True
    images: bool = False
    logprobs: bool = True
    usage: bool = True
    words: int = 6
    stray: float = 0.0
    misroute: bool = False
    fault: Fault | None = None
    names: tuple[str, ...] = (NAME,)
    delay_s: float = 0.005
    busiest: int = 0
    _inside: dict[int, tuple[Exchange, Answer]] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _hits: int = 0
    _queries: int = 0
    _chance: random.Random = field(default_factory=lambda: random.Random(5))

    async def _answer(self, exchange: Exchange) -> None:
        self.requests[exchange.path] += 1
        if exchange.path == "/metrics" and self.vllm:
            await exchange.send(200, self._metrics().encode())
        elif exchange.path == "/version" and self.vllm:
            await exchange.send(200, b'{"version": "0.32.0"}')
        elif exchange.headers.get("authorization") != f"Bearer {KEY}":
            await status(401, f"Incorrect API key: {exchange.headers.get('authorization')}")(
                exchange
            )
        elif exchange.path == "/v1/models":
            owner = "vllm" if self.vllm else "somebody"
            card = {"id": NAME, "max_model_len": 4096, "owned_by": owner, "root": "/weights"}
            await self._say(exchange, {"data": [card]})
        elif exchange.path == "/tokenize" and self.vllm:
            await self._say(exchange, {"tokens": self._prompt(exchange.body)})
        elif exchange.path == "/detokenize" and self.vllm:
            await self._say(exchange, {"prompt": self.model.text(exchange.body["tokens"])})
        elif exchange.path in self._paths:
            await self._generate(exchange)
        else:
            await status(404, "Not Found")(exchange)

    @property
    def _paths(self) -> list[str]:
        offered = {"/v1/chat/completions": self.chats, "/v1/completions": self.completes}
        return [path for path, there in offered.items() if there]

    async def _say(self, exchange: Exchange, said: Any) -> None:
        await exchange.send(200, json.dumps(said).encode())

    def _metrics(self) -> str:
        counts = {"queries": self._queries, "hits": self._hits}
        return "".join(
            f"# TYPE vllm:prefix_cache_{name} counter\nvllm:prefix_cache_{name}_total {count}\n"
            for name, count in counts.items()
        )

    def _prompt(self, body: dict[str, Any]) -> list[int]:
        if "prompt" in body:
            return list(self.model.ids(body["prompt"]))
        return list(self.model.chat_ids(_as_text(body["messages"]))[0])

    async def _generate(self, exchange: Exchange) -> None:
        body = exchange.body
        if not self.images and "image_url" in json.dumps(body.get("messages")):
            await status(400, "made-up is not a multimodal model")(exchange)
            return
        if body.get("logprobs") and not self.logprobs:
            await status(400, "logprobs are not supported")(exchange)
            return
        number = sum(self.requests.values())
        key = json.dumps([body.get("cache_salt"), body.get("messages"), body.get("prompt")])
        prompt = self._prompt(body)
        self._queries += len(prompt)
        self._hits += len(prompt) if key in self._seen else 0
        answer = self._made(body, prompt)
        self._inside[number] = exchange, answer
        self.busiest = max(self.busiest, len(self._inside))
        try:
            await asyncio.sleep(self.delay_s)
            condition = Condition(len(self._inside) > 1, key in self._seen, number)
            self._seen.add(key)
            if self.fault is not None:
                self.fault(condition, answer)
            owner = exchange
            others = [each for n, each in self._inside.items() if n != number]
            if others and self._chance.random() < self.stray:
                owner, answer = self._chance.choice(others)
            named = owner if self.misroute else exchange
            await self._say(exchange, self._written(exchange, named, prompt, answer))
        finally:
            del self._inside[number]

    def _made(self, body: dict[str, Any], prompt: list[int]) -> Answer:
        asked = json.dumps(body.get("messages") or body["prompt"])
        rng = random.Random(asked)
        number = re.search(r"(?<!\d)\d{8}(?!\d)", asked)
        if self.copies and number and "image_url" not in asked:
            said = f"It is {number[0][:4]}-{number[0][4:]}."
        else:
            said = " ".join(rng.choices(WORDS, k=self.words))
        tokens = [*self.model.ids(said), self.model.ids("<|im_end|>")[0]]
        while body.get("ignore_eos") and len(tokens) < body["max_tokens"]:
            tokens.append(rng.randrange(260, 500))
        tokens = tokens[: body["max_tokens"]]
        text = self.model.text(tokens).removesuffix("<|im_end|>")
        return Answer(text, tokens, [-rng.uniform(0.01, 0.5) for _ in tokens])

    def _written(
        self, exchange: Exchange, named: Exchange, prompt: list[int], answer: Answer
    ) -> dict[str, Any]:
        body = exchange.body
        chat = "messages" in body
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
        spelled = [
            f"token_id:{each}" if self.vllm else self.model.text([each]) for each in answer.tokens
        ]
        found: dict[str, Any] = {
            "id": named.body.get("request_id", "theirs"),
            "model": self.names[sum(self.requests.values()) % len(self.names)],
            "choices": [choice],
        }
        if self.usage:
            found["usage"] = {"prompt_tokens": len(prompt)}
        if chat:
            choice["message"] = {"role": "assistant", "content": answer.text}
        else:
            choice["text"] = answer.text
        if self.vllm:
            choice["token_ids"] = answer.tokens
            (found if chat else choice)["prompt_token_ids"] = prompt
        pairs = list(zip(spelled, answer.logprobs, strict=True))
        if body.get("logprobs") and chat:
            choice["logprobs"] = {
                "content": [
                    {
                        "token": token,
                        "logprob": value,
                        "top_logprobs": [
                            {"token": token, "logprob": value},
                            {"token": "other", "logprob": value - answer.lead},
                        ],
                    }
                    for token, value in pairs
                ]
            }
        elif body.get("logprobs"):
            choice["logprobs"] = {
                "tokens": spelled,
                "token_logprobs": answer.logprobs,
                "top_logprobs": [
                    {token: value, "other": value - answer.lead} for token, value in pairs
                ],
            }
        return found


def _as_text(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Messages with an image as a word, for the tokenizer."""

    def text(content: Any) -> str:
        if isinstance(content, str):
            return content
        return " ".join(part.get("text", "<image>") for part in content)

    return [{"role": each["role"], "content": text(each["content"])} for each in messages]
