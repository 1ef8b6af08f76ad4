"""The engine boundary: the little of vLLM that feeding it takes, and what its outputs say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from runner.lm.answer import TOO_LONG, Answer

# The chosen token and the one behind it: enough for its probability and the margin of a near-tie.
LOGPROBS = 2
# How vLLM 0.23 to 0.32 says so, for text and for text with images.
TOO_LONG_SAID = ("maximum context length", "longer than the maximum model length")
# What vLLM's own process raises over images, or their placeholders; a dead engine is another class.
IMAGES_REFUSED = (ValueError, AssertionError, IndexError)


class PromptError(Exception):
    """vLLM's reason not to take one prompt; the engine can go on with others."""


class Core(Protocol):
    """`LLM.llm_engine`, from vLLM 0.23 on."""

    def step(self) -> Sequence[Any]: ...

    def abort_request(self, request_ids: list[str], internal: bool = False) -> None: ...


class Engine(Protocol):
    """`vllm.LLM`, from vLLM 0.23 on; whatever offers this can stand in for it."""

    @property
    def llm_engine(self) -> Core: ...

    def enqueue(
        self, prompts: Any, sampling_params: Any, *, lora_request: Any, use_tqdm: bool
    ) -> list[str]: ...


@dataclass(frozen=True)
class Question:
    """One prompt for the engine, and how its output becomes an answer.

    Equal prompts with equal parameters are different questions where `kind` differs; `cut` says
    that the prompt lost its beginning to the engine's length, and `fits` is False where more would
    have to go than its beginning, so that it is not asked.
    """

    prompt: Any
    params: Any
    kind: str
    read: Callable[[Any], Answer]
    lora: Any = None
    cut: bool = False
    fits: bool = True

    @property
    def settings(self) -> str:
        """All sampling parameters, in an order of their own."""
        encoded = msgspec.json.encode(self.params, order="deterministic", enc_hook=repr)
        return encoded.decode()

    @property
    def drawn(self) -> bool:
        """Whether chance, without a seed of the request's own, decides on the answer."""
        return bool(self.params.temperature > 0 and self.params.seed is None)


def enqueue(engine: Engine, question: Question) -> str | None:
    """The engine's own id of the request; None for a prompt that it cannot hold.

    Raises:
        PromptError: for a prompt whose images vLLM cannot place.
    """
    try:
        (request,) = engine.enqueue(
            [question.prompt], question.params, lora_request=question.lora, use_tqdm=False
        )
    except Exception as error:  # ValueError up to vLLM 0.23, a class of its own in 0.32
        if any(words in str(error) for words in TOO_LONG_SAID):
            return None
        if "multi_modal_data" in question.prompt and isinstance(error, IMAGES_REFUSED):
            raise PromptError(str(error) or repr(error)) from error
        raise
    return request


def steps_in_this_process(engine: Engine) -> bool:
    """Whether `step()` computes itself, instead of waiting for a process that does."""
    client = getattr(engine.llm_engine, "engine_core", None)
    return client is None or hasattr(client, "engine_core")  # vLLM's InprocClient has the core


def public_id(request: str) -> str:
    """`enqueue` returns "7-ab12cd34" for what the outputs call "7"."""
    return request.partition("-")[0]


def generated(output: Any) -> Answer:
    """A generated text, with what is known of each of its tokens."""
    completion = output.outputs[0]
    chosen, margins = [], []
    for token, candidates in zip(completion.token_ids, completion.logprobs or (), strict=False):
        own = candidates[token].logprob
        others = [entry.logprob for other, entry in candidates.items() if other != token]
        chosen.append(own)
        margins.append(own - max(others) if others else float("inf"))
    return Answer(
        prompt_tokens=len(output.prompt_token_ids or ()),
        token_ids=tuple(completion.token_ids),
        logprobs=tuple(chosen),
        margins=tuple(margins),
        finish_reason=str(completion.finish_reason),
        text=completion.text,
    )


def refused() -> Answer:
    """An empty answer: an error would end the whole run for one prompt that is too long."""
    return Answer(0, (), (), (), TOO_LONG)
