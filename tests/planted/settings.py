"""Overrides for runs of the canary on the CPU engine with planted faults.

Both runs of a comparison have the same `variables`, so only their settings differ. Under `SOUND`
alone no fault shows. An override that comes later replaces an earlier one of the same key, so put
`SOUND` first.
"""

from __future__ import annotations

import os
from pathlib import Path

SITE = Path(__file__).parent / "site"
PROJECT = Path(__file__).parents[2]

SOUND = (
    "engine.extra.enable_prefix_caching=false",
    "engine.extra.enable_chunked_prefill=false",
    "engine.extra.max_num_seqs=8",
)
# The settings under which each fault shows. `chunked_rope` needs both of its settings.
FAULTS = {
    "tp2_scale": ("parallelism.tp=2",),
    "prefix_bias": ("engine.extra.enable_prefix_caching=true",),
    "chunked_rope": ("engine.extra.enable_chunked_prefill=true", "engine.extra.max_num_seqs=32"),
    "mlp2": ("engine.env.PLANTED_MLP=1",),
    # The runner turns this cache off (runner/runtimes/vllm/models.py).
    "vision1": ("engine.extra.mm_processor_cache_gb=1",),
    "head_env": ("engine.env.PLANTED_HEAD=1",),
}
# Where the difference of each fault begins: the start of a module's name, as a trace gives it.
PLACES = {
    "tp2_scale": "layers.1.self_attn.o_proj",
    "prefix_bias": "layers.1.self_attn",
    "chunked_rope": "layers.0.self_attn.rotary_emb",
    "mlp2": "layers.2.mlp",
    "vision1": "visual.blocks.1",
    "head_env": "layers.0.self_attn",
}
# Settings without an effect on answers: each differs from the default and shares no key with
# `SOUND` and `FAULTS`. They start together, alone and with any of the faults' settings.
HEALTHY: tuple[str, ...] = (
    "engine.max_model_len=640",
    "engine.seed=7",
    "engine.window=5",
    "engine.gpu_memory_utilization=0.6",
    # Without chunked prefill, vLLM rejects fewer than max_model_len, 1024 if that is not set.
    "engine.extra.max_num_batched_tokens=1536",
    "engine.extra.block_size=64",
    "engine.extra.scheduling_policy=priority",
    "engine.extra.scheduler_reserve_full_isl=false",
    "engine.extra.watermark=0.05",
    "engine.extra.stream_interval=4",
    "engine.extra.async_scheduling=false",
    "engine.extra.disable_cascade_attn=true",
    "engine.extra.attention_backend=CPU_ATTN",
    "engine.extra.mm_encoder_attn_backend=TORCH_SDPA",
    "engine.extra.limit_mm_per_prompt={image:3}",
    "engine.extra.skip_mm_profiling=true",
    "engine.extra.mm_hasher_algorithm=sha256",
    "engine.extra.interleave_mm_strings=true",
    "engine.extra.enable_mm_processor_stats=true",
    "engine.extra.prefix_caching_hash_algo=sha256_cbor",
    "engine.extra.kv_cache_metrics=true",
    "engine.extra.max_logprobs=40",
    "engine.extra.generation_config=vllm",
    "engine.extra.load_format=safetensors",
    "engine.extra.safetensors_load_strategy=eager",
    "engine.extra.use_tqdm_on_load=false",
    "engine.extra.max_parallel_loading_workers=1",
    "engine.extra.disable_custom_all_reduce=true",
    "engine.extra.distributed_timeout_seconds=600",
    "engine.extra.optimization_level=1",
    "engine.extra.performance_mode=throughput",
    "engine.extra.disable_log_stats=false",
    "engine.env.VLLM_LOGGING_LEVEL=WARNING",
    "engine.env.VLLM_CPU_KVCACHE_SPACE=2",
    "engine.env.VLLM_CPU_ATTN_SPLIT_KV=0",
    "engine.env.VLLM_XGRAMMAR_CACHE_MB=256",
    "engine.env.ONEDNN_PRIMITIVE_CACHE_CAPACITY=32",
    "engine.env.MALLOC_ARENA_MAX=2",
)
# Healthy as well, but it rounds: unlike `HEALTHY`, it changes log-probabilities.
ROUNDING = ("engine.dtype=bfloat16",)


def variables(*faults: str) -> dict[str, str]:
    """The environment variables with which a run has these faults; with none, the plugin idles."""
    return {
        "PLANTED_FAULTS": ",".join(faults),
        "PYTHONPATH": os.pathsep.join((str(SITE), str(PROJECT))),
    }
