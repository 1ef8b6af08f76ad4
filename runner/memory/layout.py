"""The engine arguments that decide how much of a model lies on one device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GIB = 1024**3

# vLLM's defaults for `LLM()` are 8192 and more on accelerators, 4096 a rank on a CPU
# (EngineArgs.get_batch_defaults): the least of them, for the estimate is a lower bound.
BATCHED_TOKENS = 4096

# The smallest that vLLM knows, "int4_per_token_head" and "turboquant_3bit_nc", still hold this much
# of a byte an element; so does whatever a later version adds.
SMALLEST_CACHE_BYTES = 0.375
CACHE_BYTES = {
    "float32": 4.0,
    "half": 2.0,
    "float16": 2.0,
    "bfloat16": 2.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "fp8_inc": 1.0,
    "fp8_per_token_head": 1.0,
    "int8": 1.0,
    "int8_per_token_head": 1.0,
    "int4_per_token_head": 0.5,
}


@dataclass(frozen=True)
class Layout:
    """How one engine splits a model. Data parallelism is absent: replicas are separate engines."""

    tp: int = 1
    pp: int = 1
    ep: bool = False
    dtype: str = "auto"
    max_model_len: int | None = None
    kv_cache_dtype: str = "auto"
    quantization: str | None = None
    # Tokens of one step: a sliding window holds them besides its own.
    batched_tokens: int = BATCHED_TOKENS
    # vLLM's decode and prefill context parallel: ranks that share a sequence's tokens.
    cp: int = 1
    encoder_data_parallel: bool = False
    towers: bool = True
    # Sliding layers drop what leaves their window, also beside layers of full attention.
    windows: bool = True
    offload_bytes: float = 0
    # The user sizes the KV cache, and vLLM does not heed its share of the device.
    cache_sized: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Layout:
        """Return the layout for engine arguments with vLLM's names, as in `Plan.engine_args`."""
        limits = arguments.get("limit_mm_per_prompt")
        without_images = isinstance(limits, Mapping) and bool(limits) and not any(limits.values())
        length = arguments.get("max_model_len")
        if arguments.get("disable_sliding_window") and length is None:
            length = -1  # the window, which vLLM finds: not counted
        offload = float(arguments.get("cpu_offload_gb") or 0)
        if arguments.get("offload_group_size"):
            offload = math.inf  # some of each group of layers: lower bound 0
        return cls(
            tp=arguments.get("tensor_parallel_size", 1),
            pp=arguments.get("pipeline_parallel_size", 1),
            ep=bool(arguments.get("enable_expert_parallel", False)),
            dtype=str(arguments.get("dtype", "auto")),
            max_model_len=length if isinstance(length, int) else None,
            kv_cache_dtype=str(arguments.get("kv_cache_dtype", "auto")),
            quantization=arguments.get("quantization"),
            batched_tokens=arguments.get("max_num_batched_tokens") or BATCHED_TOKENS,
            cp=arguments.get("decode_context_parallel_size", 1)
            * arguments.get("prefill_context_parallel_size", 1),
            encoder_data_parallel=arguments.get("mm_encoder_tp_mode") == "data",
            towers=not (without_images or arguments.get("language_model_only", False)),
            windows=not arguments.get("disable_hybrid_kv_cache_manager"),
            offload_bytes=offload * GIB,
            cache_sized=bool(arguments.get("kv_cache_memory_bytes")),
        )

    @property
    def float_bytes(self) -> int:
        """Bytes of a weight that is not quantized.

        "auto" takes the checkpoint's own 16-bit type, and float32 checkpoints are run in 16 bits
        (vllm/config/model.py, `_resolve_auto_dtype`).
        """
        return 4 if self.dtype in ("float", "float32") else 2

    def cache_bytes(self, model: Mapping[str, Any]) -> float:
        """Bytes of an element of the KV cache; a quantized checkpoint may ask for 8 bits itself."""
        if self.kv_cache_dtype != "auto":
            return CACHE_BYTES.get(self.kv_cache_dtype, SMALLEST_CACHE_BYTES)
        quantization = model.get("quantization_config") or {}
        scheme = quantization.get("kv_cache_scheme") or quantization.get("kv_cache_quant_algo")
        return 1.0 if scheme else float(self.float_bytes)
