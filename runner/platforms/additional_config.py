"""vllm-ascend's own options: what `additional_config` of vllm-ascend 0.23.0 knows.

vllm-ascend reads the keys that it knows and passes over the rest without a word (`eplb_config`
apart): a typing error would run with the default. Null leaves a key to vllm-ascend's own default.
Read in vllm_ascend/ascend_config.py; tests/contract compares these keys with the real file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class XliteGraphConfig:
    enabled: bool | None = None
    full_mode: bool | None = None


@dataclass
class AscendCompilationConfig:
    """Fusion passes; each changes how intermediate results are rounded."""

    enable_npugraph_ex: bool | None = None
    enable_static_kernel: bool | None = None
    fuse_norm_quant: bool | None = None
    fuse_qknorm_rope: bool | None = None
    fuse_allreduce_rms: bool | None = None
    fuse_muls_add: bool | None = None


@dataclass
class AscendFusionConfig:
    fusion_ops_gmmswigluquant: bool | None = None


@dataclass
class FinegrainedTpConfig:
    oproj_tensor_parallel_size: int | None = None
    lmhead_tensor_parallel_size: int | None = None
    embedding_tensor_parallel_size: int | None = None
    mlp_tensor_parallel_size: int | None = None
    olora_tensor_parallel_size: int | None = None


@dataclass
class EplbConfig:
    """Expert placement; dynamic_eplb also needs DYNAMIC_EPLB=true in engine.env."""

    dynamic_eplb: bool | None = None
    expert_map_path: str | None = None
    expert_heat_collection_interval: int | None = None
    algorithm_execution_interval: int | None = None
    expert_map_record_path: str | None = None
    num_redundant_experts: int | None = None
    eplb_policy_type: int | None = None
    eplb_heat_collection_stage: str | None = None


@dataclass
class WeightPrefetchConfig:
    enabled: bool | None = None
    prefetch_ratio: dict[str, Any] = field(default_factory=dict)


@dataclass
class ProfilingChunkConfig:
    enabled: bool | None = None
    smooth_factor: float | None = None
    min_chunk: int | None = None
    need_timing: bool | None = None
    max_fit_chunk: int | None = None


@dataclass
class RejectionSamplerConfig:
    """Of speculative decoding; `enable_entropy_verify` accepts tokens that the model would not."""

    enable_block_verify: bool | None = None
    enable_entropy_verify: bool | None = None
    posterior_threshold: float | None = None
    posterior_alpha: float | None = None


@dataclass
class HammingSparse:
    enabled: bool | None = None
    sparse_json_location: str | None = None


@dataclass
class AdditionalConfig:
    """The keys at the top of `additional_config`, as vllm-ascend spells them."""

    xlite_graph_config: XliteGraphConfig = field(default_factory=XliteGraphConfig)
    ascend_compilation_config: AscendCompilationConfig = field(
        default_factory=AscendCompilationConfig
    )
    ascend_fusion_config: AscendFusionConfig = field(default_factory=AscendFusionConfig)
    finegrained_tp_config: FinegrainedTpConfig = field(default_factory=FinegrainedTpConfig)
    eplb_config: EplbConfig = field(default_factory=EplbConfig)
    weight_prefetch_config: WeightPrefetchConfig = field(default_factory=WeightPrefetchConfig)
    profiling_chunk_config: ProfilingChunkConfig = field(default_factory=ProfilingChunkConfig)
    rejection_sampler_config: RejectionSamplerConfig = field(default_factory=RejectionSamplerConfig)
    hamming_sparse: HammingSparse = field(default_factory=HammingSparse)
    enable_balance_scheduling: bool | None = None
    enable_flashcomm1: bool | None = None
    enable_flashcomm2_parallel_size: int | None = None
    enable_matmul_allreduce: bool | None = None
    enable_fused_mc2: int | None = None
    enable_mlapo: bool | None = None
    weight_nz_mode: int | None = None
    msmonitor_use_daemon: bool | None = None
    enable_transpose_kv_cache_by_block: bool | None = None
    dump_config: dict[str, Any] = field(default_factory=dict)
    dump_config_path: str | None = None
    ascend_log_path: str | None = None
    layer_sharding: list[str] = field(default_factory=list)
    enable_shared_expert_dp: bool | None = None
    multistream_overlap_shared_expert: bool | None = None
    multistream_overlap_gate: bool | None = None
    recompute_scheduler_enable: bool | None = None
    enable_cpu_binding: bool | None = None
    enable_sleep_mode_extra_cleanup: bool | None = None
    multistream_dsv4_dsa_overlap: bool | None = None
    enable_prefill_mc2: bool | None = None
    SLO_limits_for_dynamic_batch: int | None = None
    pa_shape_list: list[int] = field(default_factory=list)
    enable_async_exponential: bool | None = None
    enable_kv_nz: bool | None = None
    enable_sparse_sfa_c8: bool | None = None
    enable_sparse_li_c8: bool | None = None
    c8_enable_reshape_optim: bool | None = None
    enable_mc2_hierarchy_comm: bool | None = None
    mega_moe_max_tokens: int | None = None
    dp_allreduce_on_npu: bool | None = None
    enable_reduce_sample: bool | None = None
    mix_placement: bool | None = None
    enable_dsa_cp: bool | None = None
    enable_hamming_sparse: bool | None = None
    refresh: bool | None = None


def settled(config: AdditionalConfig) -> dict[str, Any]:
    """What the user set, nested as vllm-ascend reads it."""
    return _set(asdict(config))


def _set(values: dict[str, Any]) -> dict[str, Any]:
    nested = {
        key: _set(value) if isinstance(value, dict) else value for key, value in values.items()
    }
    return {key: value for key, value in nested.items() if value not in (None, {}, [])}
