"""The interface to the engine: the parts of vLLM's API that are needed to feed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from runner.lm.answer import TOO_LONG, Answer
from runner.lm.script import REPLAYED
from runner.lm.top import packed_steps

# The chosen token and the runner-up: enough for the token's probability and for the margin of a
# near-tie.
LOGPROBS = 2
# vLLM's messages for a prompt that is too long (0.23 to 0.32). Prompts of tokens are measured
# before they are sent (`Question.fits`); the length of a prompt with images is known to vLLM alone,
# and its exception has no other sign of it.
TOO_LONG_SAID = ("maximum context length", "longer than the maximum model length")
# Errors that vLLM raises for images or their placeholders. A dead engine raises another class.
IMAGES_REFUSED = (ValueError, AssertionError, IndexError)


class PromptError(Exception):
    """vLLM's reason for rejecting one prompt. The engine can continue with other prompts."""


class Core(Protocol):
    """vLLM's engine object, `LLM.llm_engine`, from vLLM 0.23 on."""

    def step(self) -> Sequence[Any]: ...

    def abort_request(self, request_ids: list[str], internal: bool = False) -> None: ...


class Engine(Protocol):
    """`vllm.LLM`, from vLLM 0.23 on, or any stand-in with the same methods."""

    @property
    def llm_engine(self) -> Core: ...

    def enqueue(
        self, prompts: Any, sampling_params: Any, *, lora_request: Any, use_tqdm: bool
    ) -> list[str]: ...


@dataclass(frozen=True)
class Question:
    """One prompt for the engine, and the function that turns its output into an answer.

    `kind` tells questions with equal prompts and parameters apart. `cut` says that the prompt was
    left-truncated to the engine's length. `fits` is False if even truncation can't make the prompt
    fit; it is then not sent. In a replay, the last `appended` tokens of the prompt are those of
    the answer; None if it is no replay.
    """

    prompt: Any
    params: Any
    kind: str
    read: Callable[[Any], Answer]
    lora: Any = None
    cut: bool = False
    fits: bool = True
    appended: int | None = None

    @property
    def settings(self) -> str:
        """All sampling parameters as JSON, in a fixed order."""
        encoded = msgspec.json.encode(self.params, order="deterministic", enc_hook=repr)
        return encoded.decode()

    @property
    def drawn(self) -> bool:
        """Whether the answer is sampled at random without a seed of the request's own."""
        return bool(self.params.temperature > 0 and self.params.seed is None)


def enqueue(engine: Engine, question: Question) -> str | None:
    """The engine's internal id of the request; None for a prompt that is too long.

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
    """Whether `step()` computes in this process instead of waiting for another process."""
    client = getattr(engine.llm_engine, "engine_core", None)
    return client is None or hasattr(client, "engine_core")  # vLLM's InprocClient has the core


def unfinished_tokens(engine: Engine) -> int | None:
    """Number of tokens that the running requests have generated; None if the engine can't tell."""
    processor = getattr(engine.llm_engine, "output_processor", None)
    if processor is None:
        return None
    texts = (state.detokenizer for state in processor.request_states.values())
    return sum(int(text.num_output_tokens()) for text in texts if text is not None)


def public_id(request: str) -> str:
    """The id that outputs use: `enqueue` returns "7-ab12cd34" for what the outputs call "7"."""
    return request.partition("-")[0]


def generated(output: Any) -> Answer:
    """The answer for a generated text, with the log-probability and margin of each token."""
    completion = output.outputs[0]
    chosen, margins = _numbers(completion.token_ids, completion.logprobs or ())
    return Answer(
        # A server may tell their number alone.
        prompt_tokens=len(output.prompt_token_ids or ()) or getattr(output, "prompt_length", 0),
        token_ids=tuple(completion.token_ids),
        logprobs=chosen,
        margins=margins,
        finish_reason=str(completion.finish_reason),
        text=completion.text,
        # vLLM's own outputs have no such field: only its server takes reasoning out.
        reasoning=getattr(completion, "reasoning", None) or "",
    )


def recorded(output: Any) -> Answer:
    """The answer for a generated text, with the likeliest tokens of each step as well."""
    return replace(generated(output), top=packed_steps(output.outputs[0].logprobs or ()))


def replayed(output: Any) -> Answer:
    """The answer for a replayed text, with the likeliest tokens of each step as well."""
    if output.outputs[0].finish_reason == TOO_LONG:  # as a server says it
        return generated(output)
    return replace(recorded(output), finish_reason=REPLAYED)


def prefilled(script: Sequence[int], output: Any) -> Answer:
    """The answer for a text that came with the prompt, as `replayed` returns it."""
    if output.outputs[0].finish_reason == TOO_LONG:
        return generated(output)
    steps = (output.prompt_logprobs or ())[-len(script) :] if script else ()
    chosen, margins = _numbers(script, steps)
    return Answer(
        prompt_tokens=len(output.prompt_token_ids or ()) - len(script),
        token_ids=tuple(script),
        logprobs=chosen,
        margins=margins,
        finish_reason=REPLAYED,
        top=packed_steps(steps),
    )


def _numbers(
    tokens: Sequence[int], steps: Sequence[Any]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The log-probability and the margin of each token among the candidates of its step."""
    chosen, margins = [], []
    for token, candidates in zip(tokens, steps, strict=False):
        own = candidates[token].logprob
        others = [entry.logprob for other, entry in candidates.items() if other != token]
        chosen.append(own)
        margins.append(own - max(others) if others else float("inf"))
    return tuple(chosen), tuple(margins)


def refused() -> Answer:
    """An empty answer for a prompt that is too long, since an error would end the whole run."""
    return Answer(0, (), (), (), TOO_LONG)
