"""Which variables are recorded, and which are part of an engine's fingerprint."""

from __future__ import annotations

import pytest

from runner.environment import telling_variables
from runner.variables import moving, switches

MOVE = {
    "ATB_MATMUL_SHUFFLE_K_ENABLE": "0",
    "ATEN_CPU_CAPABILITY": "default",
    "CLOSE_MATMUL_K_SHIFT": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "CUDA_LAUNCH_BLOCKING": "1",
    "DYNAMIC_EPLB": "true",
    "FLASHINFER_USE_TENSOR_CORES": "1",
    "HCCL_DETERMINISTIC": "true",
    "HCCL_OP_EXPANSION_MODE": "AIV",
    "INF_NAN_MODE_ENABLE": "0",
    "INF_NAN_MODE_FORCE_DISABLE": "1",
    "KMP_NUM_THREADS": "4",
    "LCAL_DETERMINISTIC": "1",
    "LCCL_DETERMINISTIC": "1",
    "LD_PRELOAD": "/usr/lib/libother.so",
    "MKL_CBWR": "COMPATIBLE",
    "NVIDIA_TF32_OVERRIDE": "0",
    "OMP_NUM_THREADS": "8",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
    "SOME_LIBRARY_DETERMINISTIC": "1",
    "TASK_QUEUE_ENABLE": "2",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "TRITON_F32_DEFAULT": "tf32",
    "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE": "1",
    "VLLM_ASCEND_ENABLE_NZ": "0",
    "VLLM_ATTENTION_BACKEND": "TORCH_SDPA",
    "VLLM_BATCH_INVARIANT": "1",
    "VLLM_COMPUTE_NANS_IN_LOGITS": "1",
    "VLLM_FLOAT32_MATMUL_PRECISION": "high",
    "VLLM_KV_CACHE_LAYOUT": "HND",
    "VLLM_MODEL_REDIRECT_PATH": "/etc/redirect",
    "VLLM_NCCL_SO_PATH": "/usr/lib/libnccl.so.2",
    "VLLM_SOMETHING_OF_A_LATER_RELEASE": "1",
}
# Recorded, because they tell how a run was set up.
STAY = {
    "ASCEND_HOME_PATH": "/usr/local/Ascend/cann",
    "ASCEND_RT_VISIBLE_DEVICES": "0,1",
    "ASCEND_SLOG_PRINT_TO_STDOUT": "1",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "HCCL_CONNECT_TIMEOUT": "600",
    "HCCL_IF_BASE_PORT": "50000",
    "HCCL_IF_IP": "10.0.0.1",
    "HCCL_SOCKET_IFNAME": "eth0",
    "HF_ENDPOINT": "https://mirror",
    "HF_HUB_OFFLINE": "1",
    "KMP_AFFINITY": "compact",
    "NCCL_DEBUG": "INFO",
    "OMP_PLACES": "cores",
    "PYTHONPATH": "/src",
    "TORCHINDUCTOR_CACHE_DIR": "cache",
    "TORCH_DISTRIBUTED_DEBUG": "DETAIL",
    "TRITON_CACHE_DIR": "cache",
    "VLLM_CACHE_ROOT": "cache",
    "VLLM_DP_RANK": "1",
    "VLLM_HOST_IP": "10.0.0.1",
    "VLLM_LOGGING_LEVEL": "DEBUG",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PORT": "1234",
    "VLLM_RPC_TIMEOUT": "10",
}
OTHERS = {"HOME": "/root", "PATH": "/bin", "LANG": "C", "TERM": "x", "HOSTNAME": "n", "PWD": "/"}


def test_what_can_move_numbers_is_recorded_and_counts() -> None:
    assert telling_variables({**MOVE, **OTHERS}) == MOVE
    assert moving(switches(MOVE)) == MOVE


def test_places_devices_networks_and_logs_are_recorded_and_do_not_count() -> None:
    assert telling_variables({**STAY, **OTHERS}) == STAY
    assert moving(switches(STAY)) == {}


@pytest.mark.parametrize("name", ["PYTHONPATH", "LD_PRELOAD"])
def test_what_loads_code_is_shown_although_it_is_a_path(name: str) -> None:
    assert switches({name: "/src", "ASCEND_OPP_PATH": "/usr/local"}) == {name: "/src"}
