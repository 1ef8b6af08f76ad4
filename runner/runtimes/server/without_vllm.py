"""lm-eval's vLLM classes without vLLM, whose imports take longer than many an evaluation.

In front of a running server, these classes need of vLLM what is below: how to load a tokenizer and
a chat template, and the names of sampling parameters.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec

from runner.lm.replaced import replaced

# The release whose interface the stand-ins have.
RELEASE = "0.32.0"


class SamplingParams(msgspec.Struct, omit_defaults=True):
    """The parameters of `vllm.SamplingParams` that a request can carry, with vLLM's defaults.

    The server checks their values.
    """

    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    watermarking: Any = None
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: Any = msgspec.field(default_factory=list)
    stop_token_ids: Any = msgspec.field(default_factory=list)
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    logit_bias: Any = None
    allowed_token_ids: Any = None
    extra_args: Any = None
    bad_words: Any = msgspec.field(default_factory=list)
    thinking_token_budget: int | None = None

    def __post_init__(self) -> None:
        """Take what vLLM takes for a list, and no filter of tokens where none is drawn."""
        for name in ("stop", "stop_token_ids", "bad_words"):
            given = getattr(self, name)
            setattr(self, name, [given] if isinstance(given, str) else list(given or ()))
        if self.temperature == 0:
            self.top_p, self.top_k, self.min_p = 1.0, 0, 0.0


class EngineArgs:
    """What lm-eval asks `vllm.EngineArgs` before the engine starts: the model's settings."""

    def __init__(self, *, model: str, **arguments: Any) -> None:
        self.model, self.arguments = model, arguments

    def create_model_config(self) -> SimpleNamespace:
        """Settings of the model as far as its own files tell them."""
        from lm_eval.models.utils import resolve_max_length
        from transformers import AutoConfig

        named = {key: self.arguments.get(key) for key in ("revision", "trust_remote_code")}
        config = AutoConfig.from_pretrained(self.model, **named)
        length = self.arguments.get("max_model_len") or resolve_max_length(config)
        return SimpleNamespace(model=self.model, max_model_len=length, **named)


def get_tokenizer(name: str, *, tokenizer_mode: str = "auto", **arguments: Any) -> Any:
    """The tokenizer as vLLM loads it."""
    from transformers import AutoTokenizer

    fast = tokenizer_mode != "slow"
    return AutoTokenizer.from_pretrained(name, use_fast=fast, truncation_side="left", **arguments)


def resolve_chat_template(
    tokenizer: Any, chat_template: str | None, tools: Any, *, model_config: Any
) -> str | None:
    """The chat template that vLLM selects: a processor's own before the tokenizer's."""
    from transformers.utils import cached_file

    named = {"revision": model_config.revision}
    own = cached_file(
        model_config.model,
        "chat_template.json",
        _raise_exceptions_for_missing_entries=False,
        **named,
    )
    if own is not None:
        from transformers import AutoProcessor

        named["trust_remote_code"] = model_config.trust_remote_code
        processor = AutoProcessor.from_pretrained(model_config.model, **named)
        if processor.chat_template:
            return str(processor.chat_template)
    template = tokenizer.chat_template
    return tokenizer.get_chat_template(chat_template, tools=tools) if template else None


@contextmanager
def absent() -> Iterator[None]:
    """Import modules that need vLLM, or Ray, with the stand-ins in their place."""
    modules: dict[str, dict[str, Any]] = {
        "vllm": {
            "EngineArgs": EngineArgs,
            "LLM": EngineArgs,
            "SamplingParams": SamplingParams,
            "TextPrompt": dict,
            "TokensPrompt": dict,
        },
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": SimpleNamespace},
        "vllm.renderers": {},
        "vllm.renderers.hf": {"resolve_chat_template": resolve_chat_template},
        "vllm.tokenizers": {"get_tokenizer": get_tokenizer},
        "ray": {},
    }
    found = importlib.util.find_spec
    version = importlib.metadata.version

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, None) if name == "vllm" else found(name, package)

    def version_of(name: str) -> str:
        return RELEASE if name == "vllm" else version(name)

    before = {name: sys.modules.get(name) for name in modules}
    with ExitStack() as stack:
        stack.enter_context(replaced(importlib.util, "find_spec", find_spec))
        stack.enter_context(replaced(importlib.metadata, "version", version_of))
        for name, content in modules.items():
            module = ModuleType(name)
            vars(module).update({**content, "__path__": [], "__spec__": ModuleSpec(name, None)})
            sys.modules[name] = module
        try:
            yield
        finally:
            for name, module_before in before.items():
                del sys.modules[name]
                if module_before is not None:
                    sys.modules[name] = module_before
