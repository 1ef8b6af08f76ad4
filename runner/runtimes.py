"""Selects lm-eval's model class for the runtime (vLLM or transformers) and its arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.config.schema import ModelConfig, RunConfig

# lm-eval's transformers classes for the same two kinds of model: text, and text with images.
TRANSFORMERS_BACKENDS = {"vllm": "hf", "vllm-vlm": "hf-multimodal"}

# Arguments of lm-eval 0.4.13's hf classes that `engine.extra` may contain; a test compares them
# with the signatures. Left out are arguments that have a configuration key, one that needs torchrun
# (tp_plan), and weight formats and methods that are not compared with vLLM here (gguf, gptq,
# delta).
HF_ARGUMENTS = (
    "add_bos_token",
    "max_cpu_memory",
    "max_memory_per_gpu",
    "mixed_precision_dtype",
    "offload_folder",
    "parallelize",
    "peft",
    "prefix_token_id",
    "softmax_dtype",
    "subfolder",
    "use_fast_tokenizer",
)
HF_MULTIMODAL_ARGUMENTS = (
    "image_height",
    "image_max_side",
    "image_string",
    "image_token_id",
    "image_width",
    "interleave",
    "max_pixels",
    "min_pixels",
)
# Passed on to `from_pretrained`.
FROM_PRETRAINED = ("attn_implementation", "experts_implementation")

# lm-eval's `auto` for hf tries 64 prompts of the longest kind on the device, and runs out of memory
# on a CPU; hf-multimodal has no `auto`. Small batches also need little padding.
TRANSFORMERS_BATCH_SIZE = "8"


def backend(config: RunConfig) -> str:
    """lm-eval's name of the model class."""
    asked: str = config.model.backend
    if config.engine.runtime == "transformers":
        return TRANSFORMERS_BACKENDS.get(asked, asked)
    return asked


def engine_args(config: RunConfig) -> dict[str, Any]:
    """Keyword arguments of lm-eval's model class.

    A null setting is left out, so that lm-eval's or the engine's default applies. `engine.extra`
    takes precedence over all other settings.
    """
    if config.engine.runtime == "transformers":
        return _transformers_args(config)
    return _vllm_args(config)


def extra_arguments(config: RunConfig) -> tuple[str, ...]:
    """Arguments that `engine.extra` may contain for transformers."""
    images = HF_MULTIMODAL_ARGUMENTS if backend(config) == "hf-multimodal" else ()
    return tuple(sorted((*HF_ARGUMENTS, *images, *FROM_PRETRAINED)))


def anywhere(path: str | None) -> str | None:
    """A local path as an absolute path; a hub id unchanged."""
    if path is None or not Path(path).expanduser().exists():
        return path
    return str(Path(path).expanduser().resolve())


def _model_args(model: ModelConfig) -> dict[str, Any]:
    """The model's arguments that all of lm-eval's classes share."""
    template = dict(model.chat_template_args)
    thinking = template.pop("enable_thinking", model.enable_thinking)
    return {
        "pretrained": anywhere(model.pretrained),
        "revision": model.revision,
        "tokenizer": anywhere(model.tokenizer),
        "trust_remote_code": model.trust_remote_code,
        "max_images": model.max_images if model.backend == "vllm-vlm" else None,
        "enable_thinking": thinking,
        "think_end_token": model.think_end_token,
        "chat_template_args": template or None,
    }


def _vllm_args(config: RunConfig) -> dict[str, Any]:
    """Arguments of lm-eval's vLLM classes, which pass on to vLLM those that they don't know."""
    parallelism, engine = config.parallelism, config.engine
    chosen = {
        **_model_args(config.model),
        "tensor_parallel_size": parallelism.tp,
        "pipeline_parallel_size": parallelism.pp if parallelism.pp > 1 else None,
        "data_parallel_size": parallelism.dp if parallelism.dp > 1 else None,
        "enable_expert_parallel": parallelism.ep or None,
        "dtype": engine.dtype,
        "max_model_len": engine.max_model_len,
        "quantization": engine.quantization,
        "enforce_eager": engine.enforce_eager,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "seed": engine.seed,
    }
    untested = engine.extra.get("additional_config", {})
    additional_config = {**engine.additional_config, **untested}
    settled = {**_chosen(chosen), **engine.extra}
    return {**settled, "additional_config": additional_config} if additional_config else settled


def _transformers_args(config: RunConfig) -> dict[str, Any]:
    engine = config.engine
    chosen = {
        **_model_args(config.model),
        "dtype": engine.dtype,
        "max_length": engine.max_model_len,
        "device": engine.platform,
    }
    return {**_chosen(chosen), **engine.extra}


def _chosen(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if value is not None}
