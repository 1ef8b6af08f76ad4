"""Prompts as requests to a server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.errors import UserError
from runner.runtimes.server.endpoint import CHAT, COMPLETIONS
from runner.runtimes.server.expected import Expected
from runner.runtimes.server.messages import chat_fields
from runner.runtimes.server.sampling import sampling_fields
from runner.runtimes.server.server import ServerFacts

# The conversation that a rendered prompt came from; None if it came from none.
Conversation = Callable[[str], Sequence[dict[str, Any]] | None]
# What a prompt with images should become; None if that is unknown.
Expectation = Callable[[Any], Expected | None]


@dataclass(frozen=True)
class Request:
    """A request. `expected` are the prompt's ids, as sent or as expected; None if unknown.

    `longest` is the server's limit for prompt and answer together, if known.
    """

    number: int
    chat: bool
    body: dict[str, Any]
    detokenize: bool
    expected: Expected | None
    longest: int | None

    @property
    def path(self) -> str:
        return CHAT if self.chat else COMPLETIONS


class Requests:
    """Makes requests: of token ids as they are, of images and text as a conversation.

    `conversation` returns the messages behind a rendered prompt, `template_arguments` go to the
    server's chat template, and `expected` returns the token ids that the server should make of a
    prompt with images.
    """

    def __init__(
        self,
        facts: ServerFacts,
        conversation: Conversation = lambda prompt: None,
        template_arguments: Mapping[str, Any] | None = None,
        expected: Expectation = lambda prompt: None,
    ) -> None:
        self.facts = facts
        self._conversation = conversation
        self._template_arguments = dict(template_arguments or {})
        self._expected = expected
        self._longest = facts.model.max_model_len
        self.renew_salt()

    def renew_salt(self) -> None:
        """Make later requests independent of what the server has computed before.

        Other clients' requests are in the same prefix cache, so it is not emptied: with a new salt
        ours miss the old entries.
        """
        self._salt = secrets.token_hex(16)

    def make(self, number: int, prompt: Any, params: Any, lora_request: Any) -> Request:
        """The request for a prompt of vLLM's and its sampling parameters.

        Raises:
            ValueError: with vLLM's words, for a prompt that is too long or has the wrong images.
            UserError: for parameters or prompts that cannot be sent.
        """
        chat, vllm = "multi_modal_data" in prompt, self.facts.vllm
        expected = self._expected(prompt) if chat else Expected(prompt["prompt_token_ids"])
        tokens = () if expected is None else expected.tokens
        body = {
            "model": self.facts.model.id if lora_request is None else lora_request.lora_name,
            "max_tokens": self._room_for(params.max_tokens, tokens),
            **sampling_fields(params, chat=chat, vllm=vllm),
            **(self._messages(prompt) if chat else {"prompt": list(tokens)}),
        }
        if vllm:
            body |= {
                "return_token_ids": True,
                "return_tokens_as_token_ids": True,
                "cache_salt": self._salt,
            }
        request = Request(number, chat, body, params.detokenize, expected, self._longest)
        if unread := sorted(body.keys() - self.facts.fields.get(request.path, body.keys())):
            raise UserError(
                f"engine: the server at {self.facts.url} does not read {', '.join(unread)}, which "
                "this run sends"
            )
        return request

    def _messages(self, prompt: Any) -> dict[str, Any]:
        conversation = self._conversation(prompt["prompt"])
        if conversation is None:
            raise UserError(
                "task.apply_chat_template=false: a server takes images only in chat messages"
            )
        fields = chat_fields(conversation, prompt["multi_modal_data"]["image"])
        if self._template_arguments:
            fields["chat_template_kwargs"] = self._template_arguments
        if self.facts.vllm:
            # As an engine in this process tokenises the text of a prompt. The API leaves special
            # tokens to the template.
            fields["add_special_tokens"] = True
        return fields

    def _room_for(self, max_tokens: int | None, tokens: Sequence[int]) -> int | None:
        """The number of tokens to ask for: servers reject more than the context can hold."""
        if self._longest is None:
            return max_tokens
        room = self._longest - len(tokens)
        if room <= 0:
            raise ValueError(
                f"The prompt (length {len(tokens)}) is longer than the maximum model length "
                f"of {self._longest}, which the server names"
            )
        return room if max_tokens is None else min(max_tokens, room)
