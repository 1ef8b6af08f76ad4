"""The engine boundary: what lm-eval hands to vLLM, and what comes back, kept for every request."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from types import SimpleNamespace
from typing import Any

from tqdm import tqdm
from vllm import LLM, SamplingParams

from runner.lm.answer import TOO_LONG, Answer
from runner.lm.images import image_hash

# The chosen token and the one behind it: enough for its probability and the margin of a near-tie.
LOGPROBS = 2
# How vLLM 0.23 to 0.32 says so, for text and for text with images.
TOO_LONG_SAID = ("maximum context length", "longer than the maximum model length")


class RecordingEngine:
    """Stands where lm-eval expects a `vllm.LLM`, and remembers every answer by its prompt."""

    def __init__(self, llm: LLM, on_progress: Callable[[int], None]) -> None:
        """`on_progress(n)` is called whenever n more requests have finished."""
        self._llm = llm
        self._on_progress = on_progress
        self._answers: dict[Hashable, deque[Answer]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def generate(
        self,
        prompts: Sequence[Any],
        sampling_params: Any = None,
        use_tqdm: Any = None,
        lora_request: Any = None,
    ) -> list[Any]:
        """vLLM's `generate`; a prompt that cannot fit gets an empty answer instead of an error.

        One such prompt would otherwise end the whole run, after everything else was computed.
        """
        many = isinstance(sampling_params, Sequence)
        params = list(sampling_params) if many else [sampling_params] * len(prompts)
        for each in {id(each): each for each in params}.values():
            if each.prompt_logprobs is None:
                each.logprobs = LOGPROBS
        outputs = self._generate(list(prompts), params, lora_request)
        for prompt, output in zip(prompts, outputs, strict=True):
            self._answers.setdefault(prompt_key(prompt), deque()).append(_answer(output))
        return outputs

    def take(self, key: Hashable) -> Answer | None:
        """The next answer to that prompt, in the order asked; None where there was none."""
        waiting = self._answers.get(key)
        return waiting.popleft() if waiting else None

    def forget(self) -> None:
        """Drop what was not taken."""
        self._answers.clear()

    def _generate(
        self, prompts: list[Any], params: list[SamplingParams], lora_request: Any
    ) -> list[Any]:
        try:
            return list(
                self._llm.generate(
                    prompts,
                    sampling_params=params,
                    use_tqdm=self._bar,
                    lora_request=lora_request,
                )
            )
        except Exception as error:  # ValueError up to vLLM 0.23, a class of its own in 0.32
            # vLLM refuses a batch for one prompt that is too long, before any of it is computed.
            if not any(words in str(error) for words in TOO_LONG_SAID):
                raise
            if len(prompts) == 1:
                self._on_progress(1)
                return [_refused()]
            half = len(prompts) // 2
            return self._generate(prompts[:half], params[:half], lora_request) + self._generate(
                prompts[half:], params[half:], lora_request
            )

    def _bar(self, *args: Any, **kwargs: Any) -> tqdm[Any]:
        return _Progress(*args, on_progress=self._on_progress, **kwargs)


class _Progress(tqdm):
    """vLLM reports finished requests to a tqdm bar; this one draws nothing and passes them on."""

    def __init__(self, *args: Any, on_progress: Callable[[int], None], **kwargs: Any) -> None:
        self._requests = kwargs.get("desc") == "Processed prompts"
        self._on_progress = on_progress
        super().__init__(*args, **{**kwargs, "bar_format": "", "mininterval": 3600})

    def display(self, *args: Any, **kwargs: Any) -> None:
        return None

    def update(self, n: float | None = 1) -> bool | None:
        if self._requests:
            self._on_progress(int(n or 0))
        redrawn: bool | None = super().update(n)
        return redrawn


def prompt_key(prompt: Any) -> Hashable:
    """Who a prompt is: its tokens, or its text and the content of its images."""
    if "prompt_token_ids" in prompt:
        return tuple(prompt["prompt_token_ids"])
    images = (prompt.get("multi_modal_data") or {}).get("image") or []
    return (prompt["prompt"], tuple(image_hash(image) for image in images))


def _answer(output: Any) -> Answer:
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
    )


def _refused() -> Any:
    completion = SimpleNamespace(text="", token_ids=(), logprobs=None, finish_reason=TOO_LONG)
    return SimpleNamespace(outputs=[completion], prompt_token_ids=(), prompt_logprobs=None)
