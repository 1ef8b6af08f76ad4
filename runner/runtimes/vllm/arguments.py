"""vLLM's view of the engine arguments: which ones it accepts, and the values it resolves."""

from __future__ import annotations

import json
from dataclasses import fields
from enum import Enum
from typing import Any

from pydantic import ValidationError

from runner.config.usage import suggestion
from runner.errors import UserError
from runner.inputs.weights import untrusted
from runner.plan import Plan

# Arguments that lm-eval's model classes use themselves and do not pass on to vLLM.
LM_EVAL_ARGUMENTS = (
    "pretrained",
    "max_images",
    "enable_thinking",
    "think_end_token",
    "chat_template_args",
    "add_bos_token",
    "prefix_token_id",
    "max_gen_toks",
    "max_length",
    "truncation_side",
    "interleave",
    "image_width",
    "image_height",
    "image_max_side",
    "lora_local_path",
)


def check_engine_args(plan: Plan) -> None:
    """Reject arguments that the installed vLLM does not know or cannot combine.

    Runs before any weights are loaded.

    Raises:
        UserError: with the name of the unknown argument, or with vLLM's own reason.
    """
    from vllm import EngineArgs

    known = tuple(item.name for item in fields(EngineArgs))
    unknown = [
        f"engine.extra.{name}: this vLLM has no such engine argument.{suggestion(name, known)}"
        for name in plan.engine_args
        if name not in known and name not in LM_EVAL_ARGUMENTS
    ]
    if unknown:
        raise UserError(*unknown)
    arguments = {k: v for k, v in plan.engine_args.items() if k in known}
    try:
        EngineArgs(model=plan.engine_args["pretrained"], **arguments).create_engine_config()
    except Exception as error:  # vLLM and its plugins raise all kinds of exceptions here
        if "trust_remote_code" in str(error):
            raise UserError(untrusted(plan.engine_args["pretrained"])) from error
        raise UserError(f"engine: vLLM rejects this configuration: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The first line of vLLM's reason, or of pydantic's together with the field it concerns."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return f"{field}={first['input']}: {first['msg']}" if field else str(first["msg"])
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = isinstance(error, ValueError | AssertionError | NotImplementedError | OSError)
    return lines[0] if lines and told else repr(error)


def resolved_engine(config: Any) -> dict[str, Any]:
    """vLLM's resolved configuration: the settings that readers compare, and all of it as text."""
    cache, compilation = config.cache_config, config.compilation_config
    return {
        "model": config.model_config.model,
        "architectures": list(config.model_config.architectures),
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "quantization": config.model_config.quantization,
        "max_model_len": config.model_config.max_model_len,
        "enforce_eager": config.model_config.enforce_eager,
        "seed": config.model_config.seed,
        "tensor_parallel_size": config.parallel_config.tensor_parallel_size,
        "pipeline_parallel_size": config.parallel_config.pipeline_parallel_size,
        "data_parallel_size": config.parallel_config.data_parallel_size,
        "enable_expert_parallel": config.parallel_config.enable_expert_parallel,
        "distributed_executor_backend": str(config.parallel_config.distributed_executor_backend),
        "block_size": cache.block_size,
        "num_gpu_blocks": cache.num_gpu_blocks,
        "kv_cache_dtype": str(cache.cache_dtype),
        "enable_prefix_caching": cache.enable_prefix_caching,
        "cudagraph_mode": _name(compilation.cudagraph_mode),
        "compilation_mode": _name(getattr(compilation, "mode", None)),
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "additional_config": json.loads(json.dumps(config.additional_config, default=str)),
        "whole": str(config),
    }


def _name(value: Any) -> str:
    return value.name if isinstance(value, Enum) else str(value)
