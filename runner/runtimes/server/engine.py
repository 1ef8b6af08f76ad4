"""A server as an engine: the methods of `vllm.LLM` that the stream needs, over HTTP."""

from __future__ import annotations

import queue
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

import httpx

from runner.errors import UserError
from runner.runtimes.server.answers import Output, Unreadable, read, too_long
from runner.runtimes.server.client import Client, Rejected
from runner.runtimes.server.endpoint import Endpoint, own_words
from runner.runtimes.server.messages import chat_fields
from runner.runtimes.server.retries import Failed, Patience
from runner.runtimes.server.sampling import sampling_fields
from runner.runtimes.vllm.engine import TOO_LONG_SAID

# Longest time that `step` waits for an answer, so that its caller can report that it is alive.
STEP_S = 1.0
# vLLM's words if the prompt leaves no room for even one token.
NO_ROOM_SAID = ("max_tokens must be at least 1",)

# A request's id, and its output or error.
_Result = tuple[str, Output | Exception]
# The conversation that a rendered prompt came from; None if it came from none.
Conversation = Callable[[str], Sequence[dict[str, Any]] | None]
# The token ids that a prompt with images should have; None if that is unknown.
Expected = Callable[[Any], Sequence[int] | None]


@dataclass
class Exchanged:
    """Counts what was sent and what came back.

    `retried` counts failures by kind. `different` counts prompts that the server tokenised
    differently, `first_difference` describes the first, and `unverified` counts prompts whose
    tokens the server did not tell. `shortened` counts answers that ended at a token limit below
    the requested one, `reasoned` those whose reasoning the server took out. `served` counts the
    model and fingerprint in each answer, and `missing` the parts that answers lacked.
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


@dataclass(frozen=True)
class _Request:
    """A request. `tokens` are the prompt's ids, as sent or as expected; None if unknown."""

    number: int
    chat: bool
    body: dict[str, Any]
    detokenize: bool
    tokens: Sequence[int] | None

    @property
    def path(self) -> str:
        return "/chat/completions" if self.chat else "/completions"


class ServedEngine:
    """Sends each prompt as a request of its own, `connections` at a time, from one thread.

    Prompts of token ids go to `/completions` as they are. Prompts with images go to
    `/chat/completions` as the messages that `conversation` returns for the prompt's text, with
    `template_arguments`; `expected` returns the token ids that the server should make of them.
    `vllm` says whether the server is vLLM, which has more parameters and tells more. `models` are
    the names of all models that it serves.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connections: int,
        vllm: bool = True,
        max_model_len: int | None = None,
        models: Sequence[str] = (),
        patience: Patience | None = None,
        conversation: Conversation = lambda prompt: None,
        template_arguments: Mapping[str, Any] | None = None,
        expected: Expected = lambda prompt: None,
    ) -> None:
        self.exchanged = Exchanged()
        self._endpoint = endpoint
        self._vllm = vllm
        self._max_model_len = max_model_len
        self._models = models
        self._conversation = conversation
        self._template_arguments = dict(template_arguments or {})
        self._expected = expected
        self._salt = secrets.token_hex(16)
        self._asked = 0
        self._done: queue.SimpleQueue[_Result] = queue.SimpleQueue()
        self._late: _Result | None = None
        self._flying: dict[str, Future[None]] = {}
        self._client = Client(
            endpoint, connections=connections, patience=patience or Patience(), note=self._note
        )

    @property
    def llm_engine(self) -> ServedEngine:
        return self

    def reset_prefix_cache(self) -> None:
        """Make later requests independent of what the server has computed before.

        Other clients' requests are in the same cache, so it is not emptied: a new salt makes ours
        miss the old entries.
        """
        self._salt = secrets.token_hex(16)

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
        model = lora_request.lora_name if lora_request is not None else self._endpoint.model
        request = self._request(self._asked, prompt, sampling_params, model)
        self.exchanged.asked += 1
        name = str(request.number)
        self._flying[name] = self._client.start(self._answer(request))
        return [name]

    def step(self) -> list[Output]:
        """The outputs of requests that have finished since the last step; waits for one, at most
        a second.

        Raises:
            UserError: if the server rejects a request.
            ServerError: if the server keeps failing.
        """
        outputs: list[Output] = []
        with suppress(queue.Empty):
            name, result = self._late or self._done.get(timeout=STEP_S)
            self._late = None
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
                name, result = self._done.get_nowait()
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

    def _request(self, number: int, prompt: Any, params: Any, model: str) -> _Request:
        chat = "multi_modal_data" in prompt
        tokens = self._expected(prompt) if chat else prompt["prompt_token_ids"]
        body = {
            "model": model,
            "max_tokens": self._room_for(params.max_tokens, tokens),
            **sampling_fields(params, chat=chat, vllm=self._vllm),
            **(self._messages(prompt) if chat else {"prompt": list(tokens or ())}),
        }
        if self._vllm:
            body |= {
                "return_token_ids": True,
                "return_tokens_as_token_ids": True,
                "cache_salt": self._salt,
            }
        return _Request(number, chat, body, params.detokenize, tokens)

    def _messages(self, prompt: Any) -> dict[str, Any]:
        conversation = self._conversation(prompt["prompt"])
        if conversation is None:
            raise UserError(
                "task.apply_chat_template=false: a server takes images only in chat messages"
            )
        fields = chat_fields(conversation, prompt["multi_modal_data"]["image"])
        if self._template_arguments:
            fields["chat_template_kwargs"] = self._template_arguments
        if self._vllm:
            # As an engine in this process tokenises the text of a prompt. The API leaves special
            # tokens to the template.
            fields["add_special_tokens"] = True
        return fields

    def _room_for(self, max_tokens: int | None, tokens: Sequence[int] | None) -> int | None:
        """The number of tokens to ask for: servers reject more than the context can hold."""
        if self._max_model_len is None:
            return max_tokens
        room = self._max_model_len - len(tokens or ())
        if room <= 0:
            raise ValueError(
                f"The prompt (length {len(tokens or ())}) is longer than the maximum model length "
                f"of {self._max_model_len}, which the server names"
            )
        return room if max_tokens is None else min(max_tokens, room)

    async def _answer(self, request: _Request) -> None:
        result: Output | Exception
        try:
            result = await self._client.ask(
                self._endpoint.api(request.path),
                request.body,
                partial(self._output, request),
                identified=self._vllm,
            )
        except Rejected as rejected:
            result = (
                too_long(str(request.number))
                if _says_too_long(rejected.response)
                else self._endpoint.refusal(rejected.response, self._models)
            )
        except Exception as error:
            result = error
        self._done.put((str(request.number), result))

    def _note(self, failed: Failed) -> None:
        self.exchanged.retried[failed.kind] += 1

    def _output(self, request: _Request, answer: Any, name: str) -> Output:
        """The output in a complete answer, if it is the answer to this request."""
        self._client.check_id(str(answer["id"]), name)
        try:
            output = read(
                answer, str(request.number), chat=request.chat, detokenize=request.detokenize
            )
        except Unreadable as error:
            raise Failed("broken answer", str(error)) from error
        self._check_prompt(request, output)
        self._count(request, answer, output)
        return output

    def _check_prompt(self, request: _Request, output: Output) -> None:
        found, sent = output.prompt_token_ids, request.tokens
        if found is None or sent is None:
            self.exchanged.unverified += 1
        elif list(found) != list(sent):
            if not request.chat:
                raise Failed("wrong prompt", "the server answered another prompt than was sent")
            self.exchanged.different += 1
            self.exchanged.first_difference = self.exchanged.first_difference or _difference(
                sent, found
            )

    def _count(self, request: _Request, answer: dict[str, Any], output: Output) -> None:
        exchanged, completion = self.exchanged, output.outputs[0]
        exchanged.answered += 1
        exchanged.served[str(answer.get("model")), str(answer.get("system_fingerprint"))] += 1
        if request.body.get("prompt_logprobs") is not None and output.prompt_logprobs is None:
            raise UserError(
                f"engine.endpoint.url={self._endpoint.url}: the server tells no log-probabilities "
                "of prompts, so it cannot score given texts (loglikelihood)"
            )
        if not completion.token_ids and completion.text:
            exchanged.missing["token ids"] += 1
        if request.body.get("logprobs") and completion.logprobs is None and completion.text:
            exchanged.missing["log-probabilities"] += 1
        if request.chat:
            message = answer["choices"][0]["message"]
            exchanged.reasoned += bool(message.get("reasoning") or message.get("reasoning_content"))
        if completion.finish_reason == "length" and completion.token_ids:
            exchanged.shortened += self._is_short(request, output)

    def _is_short(self, request: _Request, output: Output) -> bool:
        length, asked = len(output.outputs[0].token_ids), request.body["max_tokens"]
        full = len(output.prompt_token_ids or ()) + length >= (self._max_model_len or length)
        return asked is not None and length < asked and not full


def _says_too_long(response: httpx.Response) -> bool:
    rejected = response.status_code in (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    )
    said = own_words(response)
    return rejected and any(words in said for words in (*TOO_LONG_SAID, *NO_ROOM_SAID))


def _difference(sent: Sequence[int], found: Sequence[int]) -> str:
    pairs = zip(sent, found, strict=False)
    place = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(sent), len(found)))
    return (
        f"{len(found)} tokens instead of {len(sent)}, different from token {place + 1} on: "
        f"{list(found[place : place + 5])} instead of {list(sent[place : place + 5])}"
    )
