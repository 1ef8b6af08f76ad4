"""What runs the model, vLLM or transformers: its class in lm-eval, and that class's arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.config.schema import ModelConfig, RunConfig

# lm-eval's names of the same two kinds of model, text alone and text with images.
TRANSFORMERS_BACKENDS = {"vllm": "hf", "vllm-vlm": "hf-multimodal"}

# What `engine.extra` may hold for lm-eval 0.4.13's hf classes; a test compares it with their
# signatures. Left out is what the configuration has a key for, what needs torchrun (tp_plan), and
# formats and methods of weights that vLLM is not held against here (gguf, gptq, delta).
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
# Handed on to `from_pretrained`.
FROM_PRETRAINED = ("attn_implementation", "experts_implementation")

# lm-eval's `auto` for hf tries 64 prompts of the longest kind on the device, and on a CPU runs out
# of memory over it; for hf-multimodal it does not exist. Small batches also pad little.
TRANSFORMERS_BATCH_SIZE = "8"


def backend(config: RunConfig) -> str:
    """What lm-eval calls the model class."""
    asked: str = config.model.backend
    if config.engine.runtime == "transformers":
        return TRANSFORMERS_BACKENDS.get(asked, asked)
    return asked


def engine_args(config: RunConfig) -> dict[str, Any]:
    """Keyword arguments of lm-eval's model class.

    Null means lm-eval's or the engine's own default and is left out; `engine.extra` has the last
    word.
    """
    if config.engine.runtime == "transformers":
        return _transformers_args(config)
    return _vllm_args(config)


def extra_arguments(config: RunConfig) -> tuple[str, ...]:
    """What transformers' `engine.extra` may hold."""
    images = HF_MULTIMODAL_ARGUMENTS if backend(config) == "hf-multimodal" else ()
    return tuple(sorted((*HF_ARGUMENTS, *images, *FROM_PRETRAINED)))


def anywhere(path: str | None) -> str | None:
    """A local path as it reads from every working directory; a hub id as it is."""
    if path is None or not Path(path).expanduser().exists():
        return path
    return str(Path(path).expanduser().resolve())


def _model_args(model: ModelConfig) -> dict[str, Any]:
    """What all of lm-eval's classes are told of a model."""
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
    """lm-eval hands what it does not know itself to vLLM."""
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
