"""Stand-ins for `vllm.LLM` in lm-eval's code: before the engine starts, and in front of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from vllm import EngineArgs

from runner.lm.script import CANDIDATES, PREFILL, RECORD, REPLAY
from runner.runtimes.vllm.engine import (
    LOGPROBS,
    Question,
    generated,
    prefilled,
    recorded,
    replayed,
)

if TYPE_CHECKING:
    from runner.lm.answer import Answer
    from runner.runtimes.vllm.stream import Stream


class NotStarted:
    """Stands in for `vllm.LLM` before the engine starts; provides the model's settings.

    lm-eval uses them to select the chat template, so requests can be built before the engine
    starts.
    """

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments

    @property
    def llm_engine(self) -> NotStarted:
        return self

    @cached_property
    def model_config(self) -> Any:
        """vLLM's `ModelConfig`, as the engine will have it."""
        return EngineArgs(**self._arguments).create_model_config()


class Gate:
    """Stands in for `vllm.LLM` in lm-eval's code and sends its requests through the stream."""

    def __init__(self, llm: Any, stream: Stream, max_length: int) -> None:
        self._llm = llm
        self._stream = stream
        self._max_length = max_length

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def generate(
        self,
        prompts: Sequence[Any],
        sampling_params: Any = None,
        use_tqdm: Any = None,
        lora_request: Any = None,
    ) -> list[Output]:
        """vLLM's `generate`; lm-eval only reads the text of its outputs."""
        many = isinstance(sampling_params, Sequence)
        params = list(sampling_params) if many else [sampling_params] * len(prompts)
        questions = [
            self._question(prompt, each, lora_request)
            for prompt, each in zip(prompts, params, strict=True)
        ]
        return [Output(answer) for answer in self._stream.ask(questions)]

    def _question(self, prompt: Any, params: Any, lora_request: Any) -> Question:
        """The question for a prompt, with what is read of its answer.

        An answer that is replayed ends where its script does, whatever its text and tokens are.
        """
        own = dict(params.extra_args or {})
        read: Callable[[Any], Answer] = generated
        kind, appended = "generate", None
        params.logprobs = LOGPROBS
        if own.pop(RECORD, False):
            params.logprobs, read, params.extra_args = CANDIDATES, recorded, own or None
        if REPLAY in own:
            params.logprobs, read, appended = CANDIDATES, replayed, 0
            params.stop, params.stop_token_ids, params.ignore_eos = [], [], True
            # A prompt that was not sent has an empty answer.
            params.max_tokens = max(len(own[REPLAY]), 1)
        elif PREFILL in own:
            script, params.extra_args = own[PREFILL], None
            prompt = {**prompt, "prompt_token_ids": [*prompt["prompt_token_ids"], *script]}
            params.logprobs, params.prompt_logprobs, params.max_tokens = None, CANDIDATES, 1
            read, kind, appended = partial(prefilled, script), "prefill", len(script)
        return Question(
            prompt,
            params,
            kind,
            read,
            lora_request,
            fits=self._fits(prompt),
            appended=appended,
        )

    def _fits(self, prompt: Any) -> bool:
        """Whether a prompt of tokens leaves room for at least one more; else True."""
        return len(prompt.get("prompt_token_ids", ())) < self._max_length


class Output:
    """The part of a `vllm.RequestOutput` that lm-eval reads."""

    def __init__(self, answer: Answer) -> None:
        self.outputs = [answer]
