"""The `additional_config` options of each vllm-ascend release.

vllm-ascend reads the keys that it knows and passes over the rest without a word (`eplb_config`
apart): a typing error would run with the default. Null leaves a key to vllm-ascend's own default.
Read in vllm_ascend/ascend_config.py; tests/contract compares these keys with the real files.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from packaging.version import InvalidVersion, Version

# Whose keys hold where no vllm-ascend is installed: the release of constraints/.
USUAL = "0.23.0"


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
    fuse_muls_add: bool | None = None


@dataclass
class AscendCompilationConfig023(AscendCompilationConfig):
    fuse_allreduce_rms: bool | None = None


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
    """Speculative decoding; `enable_entropy_verify` accepts tokens that the model would reject."""

    enable_block_verify: bool | None = None
    enable_entropy_verify: bool | None = None
    posterior_threshold: float | None = None
    posterior_alpha: float | None = None


@dataclass
class HammingSparse:
    enabled: bool | None = None
    sparse_json_location: str | None = None


@dataclass
class ShortRequestFirstConfig:
    enabled: bool | None = None
    threshold: int | None = None
    long_max_wait_ms: float | None = None


@dataclass
class BatchJobSchedConfig:
    enabled: bool | None = None
    max_jobs: int | None = None
    reserve_margin_blocks: int | None = None
    reserve_max_blocks: int | None = None
    low_available_tokens_threshold: int | None = None
    short_decode_token_threshold: int | None = None


@dataclass
class SchedulerConfig:
    """Scheduler options since 0.26; the same keys at the top level are deprecated."""

    enable_balance_scheduling: bool | None = None
    recompute_scheduler_enable: bool | None = None
    short_request_first_config: ShortRequestFirstConfig = field(
        default_factory=ShortRequestFirstConfig
    )
    profiling_chunk_config: ProfilingChunkConfig = field(default_factory=ProfilingChunkConfig)
    batch_job_sched_config: BatchJobSchedConfig = field(default_factory=BatchJobSchedConfig)


@dataclass
class SparseKVOffloadConfig:
    enabled: bool | None = None
    topk_buffer_size: int | None = None
    dram_size_per_dp_GB: int | None = None
    keep_device_kv_cache: bool | None = None


@dataclass
class AdditionalConfig:
    """The keys at the top of `additional_config` that every release here has."""

    xlite_graph_config: XliteGraphConfig = field(default_factory=XliteGraphConfig)
    ascend_compilation_config: AscendCompilationConfig = field(
        default_factory=AscendCompilationConfig
    )
    ascend_fusion_config: AscendFusionConfig = field(default_factory=AscendFusionConfig)
    finegrained_tp_config: FinegrainedTpConfig = field(default_factory=FinegrainedTpConfig)
    eplb_config: EplbConfig = field(default_factory=EplbConfig)
    rejection_sampler_config: RejectionSamplerConfig = field(default_factory=RejectionSamplerConfig)
    enable_flashcomm1: bool | None = None
    enable_fused_mc2: int | None = None
    enable_mlapo: bool | None = None
    weight_nz_mode: int | None = None
    msmonitor_use_daemon: bool | None = None
    enable_transpose_kv_cache_by_block: bool | None = None
    dump_config: dict[str, Any] = field(default_factory=dict)
    dump_config_path: str | None = None
    ascend_log_path: str | None = None
    enable_shared_expert_dp: bool | None = None
    multistream_overlap_shared_expert: bool | None = None
    enable_cpu_binding: bool | None = None
    enable_sleep_mode_extra_cleanup: bool | None = None
    multistream_dsv4_dsa_overlap: bool | None = None
    enable_prefill_mc2: bool | None = None
    pa_shape_list: list[int] = field(default_factory=list)
    enable_kv_nz: bool | None = None
    enable_sparse_sfa_c8: bool | None = None
    enable_sparse_li_c8: bool | None = None
    c8_enable_reshape_optim: bool | None = None
    enable_mc2_hierarchy_comm: bool | None = None
    mega_moe_max_tokens: int | None = None
    enable_reduce_sample: bool | None = None
    mix_placement: bool | None = None
    enable_dsa_cp: bool | None = None
    refresh: bool | None = None


@dataclass
class AdditionalConfig023(AdditionalConfig):
    ascend_compilation_config: AscendCompilationConfig023 = field(
        default_factory=AscendCompilationConfig023
    )
    weight_prefetch_config: WeightPrefetchConfig = field(default_factory=WeightPrefetchConfig)
    profiling_chunk_config: ProfilingChunkConfig = field(default_factory=ProfilingChunkConfig)
    hamming_sparse: HammingSparse = field(default_factory=HammingSparse)
    enable_hamming_sparse: bool | None = None
    enable_balance_scheduling: bool | None = None
    enable_flashcomm2_parallel_size: int | None = None
    enable_matmul_allreduce: bool | None = None
    layer_sharding: list[str] = field(default_factory=list)
    multistream_overlap_gate: bool | None = None
    recompute_scheduler_enable: bool | None = None
    SLO_limits_for_dynamic_batch: int | None = None
    enable_async_exponential: bool | None = None
    dp_allreduce_on_npu: bool | None = None


@dataclass
class AdditionalConfig026(AdditionalConfig):
    scheduler_config: SchedulerConfig = field(default_factory=SchedulerConfig)
    sparse_kv_offload_config: SparseKVOffloadConfig = field(default_factory=SparseKVOffloadConfig)
    mc2_comm_alg: str | None = None
    draft_window_size: int | None = None


# By the first release that has it, the oldest first.
RELEASES: dict[tuple[int, ...], type[AdditionalConfig]] = {
    (0, 23): AdditionalConfig023,
    (0, 26): AdditionalConfig026,
}


def schema(installed: str | None) -> type[AdditionalConfig]:
    """Return the newest schema that is not newer than the installed vllm-ascend."""
    try:
        release = Version(installed or USUAL).release
    except InvalidVersion:
        release = Version(USUAL).release
    oldest, *later = RELEASES.items()
    found = oldest[1]
    for first, each in later:
        found = each if release >= first else found
    return found


def elsewhere(name: str, installed: str | None) -> str:
    """Return why the installed vllm-ascend lacks a key that another place or release has, or ''."""
    mine = schema(installed)
    if name in names(mine):
        return ""
    if name in names(SchedulerConfig) and "scheduler_config" in names(mine):
        return f"use engine.additional_config.scheduler_config.{name} with this vllm-ascend"
    having = [release for release, each in RELEASES.items() if name in names(each)]
    others = " and ".join(".".join(map(str, release)) for release in having)
    return f"vllm-ascend {installed or USUAL} has no such key; it is in {others}" if having else ""


def names(kind: type[Any]) -> set[str]:
    return {each.name for each in fields(kind)}


def settled(config: AdditionalConfig) -> dict[str, Any]:
    """Return only the keys that the user set, nested as vllm-ascend reads them."""
    return _set(asdict(config))


def _set(values: dict[str, Any]) -> dict[str, Any]:
    nested = {
        key: _set(value) if isinstance(value, dict) else value for key, value in values.items()
    }
    return {key: value for key, value in nested.items() if value not in (None, {}, [])}
