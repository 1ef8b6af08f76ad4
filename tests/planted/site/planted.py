"""A vLLM plugin that plants faults in the loaded model, each under certain settings only.

vLLM loads it in every process of an engine if this directory is on PYTHONPATH. `PLANTED_FAULTS`
names the faults, separated by commas. Whether a fault shows depends on the engine's resolved
configuration, or on a variable of the engine's process. Each planted fault is logged as a warning.

Outputs are changed by forward hooks, so a hook that is registered later sees the changed output.
The module paths are those of Qwen2.5-VL: another model, or a pipeline stage without the module,
fails at start.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LAYERS = "language_model.model.layers"
logger = logging.getLogger("vllm.planted")


@dataclass(frozen=True)
class Fault:
    """Damages a module of the model if `shows` holds for vLLM's configuration."""

    module: str
    shows: Callable[[Any], bool]
    damage: Callable[[Any], object]


def _scale(factor: float) -> Callable[[Any], object]:
    """Multiply a module's output; vLLM's linear layers return it with an unused bias."""

    def hook(module: Any, inputs: Any, output: Any) -> Any:
        return (output[0] * factor, output[1]) if isinstance(output, tuple) else output * factor

    return lambda module: module.register_forward_hook(hook)


def _scale_gate(module: Any) -> None:
    """Multiply the gate: the first half of each rank's output."""

    def hook(module: Any, inputs: Any, output: Any) -> Any:
        changed = output[0].clone()
        changed[..., : changed.shape[-1] // 2] *= 1.3
        return changed, output[1]

    module.register_forward_hook(hook)


def _drop_bias(module: Any) -> None:
    module.bias.data.zero_()


def _double_base(module: Any) -> None:
    """Compute RoPE with twice the model's rope_theta. All layers share this module."""
    module.base *= 2
    module.cos_sin_cache.copy_(module._compute_cos_sin_cache())


def _zero_head(module: Any) -> None:
    """Zero the model's first attention head, which the first rank computes."""
    from vllm.distributed import get_tensor_model_parallel_rank

    def hook(module: Any, inputs: Any, output: Any) -> Any:
        changed = output.clone()
        changed[..., : module.head_size] = 0.0
        return changed

    if get_tensor_model_parallel_rank() == 0:
        module.register_forward_hook(hook)


def _chunks_for_many(config: Any) -> bool:
    scheduler = config.scheduler_config
    return bool(scheduler.enable_chunked_prefill and scheduler.max_num_seqs > 8)


FAULTS = {
    "tp2_scale": Fault(
        f"{LAYERS}.1.self_attn.o_proj",
        lambda config: config.parallel_config.tensor_parallel_size == 2,
        _scale(1.15),
    ),
    "prefix_bias": Fault(
        f"{LAYERS}.1.self_attn.qkv_proj",
        lambda config: bool(config.cache_config.enable_prefix_caching),
        _drop_bias,
    ),
    "chunked_rope": Fault(f"{LAYERS}.0.self_attn.rotary_emb", _chunks_for_many, _double_base),
    "mlp2": Fault(
        f"{LAYERS}.2.mlp.gate_up_proj",
        lambda config: os.environ.get("PLANTED_MLP") == "1",
        _scale_gate,
    ),
    # Not the block: vLLM calls its forward method directly, so its hooks would not run.
    "vision1": Fault(
        "visual.blocks.1.mlp",
        lambda config: config.model_config.multimodal_config.mm_processor_cache_gb > 0,
        _scale(0.5),
    ),
    "head_env": Fault(
        f"{LAYERS}.0.self_attn.attn",
        lambda config: os.environ.get("PLANTED_HEAD") == "1",
        _zero_head,
    ),
}


def plant_all() -> None:
    """Damage each model that vLLM loads from now on. Raises ValueError for an unknown name."""
    names = [name for name in os.environ.get("PLANTED_FAULTS", "").split(",") if name]
    if unknown := set(names) - FAULTS.keys():
        raise ValueError(f"PLANTED_FAULTS: unknown: {', '.join(sorted(unknown))}")
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    load = BaseModelLoader.load_model

    @functools.wraps(load)
    def loaded(loader: Any, vllm_config: Any, *args: Any, **kwargs: Any) -> Any:
        model = load(loader, vllm_config, *args, **kwargs)
        for name in names:
            fault = FAULTS[name]
            if fault.shows(vllm_config):
                fault.damage(model.get_submodule(fault.module))
                logger.warning("planted %s in %s (process %d)", name, fault.module, os.getpid())
        return model

    BaseModelLoader.load_model = loaded
