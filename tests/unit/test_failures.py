"""Out of memory as engines word it, what would do instead, and what is worth another attempt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.plan import Plan
from runner.supervision import failures, shortage
from runner.supervision.failures import Failure

ARGUMENTS = {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.9, "max_model_len": 4096}
# vllm 0.32, v1/core/kv_cache_utils.py.
CACHE_TOO_SMALL = (
    "(EngineCore pid=7) ERROR 11-25 ValueError: To serve at least one request with the model's max "
    "seq len (4096), (2.25 GiB KV cache is needed, which is larger than the available KV cache "
    "memory (1.5 GiB). Based on the available memory, the estimated maximum model length is "
    "2720. Try increasing `gpu_memory_utilization` (which also controls CPU memory on the CPU "
    "backend) or decreasing `max_model_len` when initializing the engine."
)
# vllm #2418, #10517.
CACHE_TOO_SMALL_ONCE = (
    "ValueError: The model's max seq len (29000) is larger than the maximum number of tokens that "
    "can be stored in KV cache (23648). Try increasing `gpu_memory_utilization` or decreasing "
    "`max_model_len` when initializing the engine."
)
NO_CACHE = (
    "Available KV cache memory: -0.87 GiB\nValueError: No available memory for the cache blocks. "
    "Try increasing `gpu_memory_utilization` when initializing the engine."
)
# vllm-ascend 0.23.0, worker/worker.py.
TAKEN = (
    "ValueError: Free memory on device (12.31/60.96 GiB) on startup is less than desired GPU "
    "memory utilization (0.9, 54.87 GiB). Decrease GPU memory utilization or reduce GPU memory "
    "used by other processes."
)
TAKEN_ON_CPU = (
    "ValueError: Available memory on node 0 (3.2/31.3 GiB) on startup is less than desired CPU "
    "memory utilization (0.9, 28.2 GiB)."
)
# vllm-ascend #1987.
NPU = (
    "RuntimeError: NPU out of memory. Tried to allocate 3.47 GiB (NPU 0; 60.97 GiB total capacity; "
    "58.92 GiB already allocated; 58.92 GiB current active; 1.66 GiB free; 58.95 GiB reserved in "
    "total by PyTorch) If reserved memory is >> allocated memory try setting max_split_size_mb."
)
# vllm #16343.
CUDA = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 350.00 MiB. GPU 0 has a total "
    "capacity of 23.68 GiB of which 212.81 MiB is free. Process 1 has 23.4 GiB memory in use."
)
LOADED = "Loading model weights took 27.5376 GB\n"
SAMPLER = (
    "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests. "
    "Please try lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine."
)


# vllm 0.32, v1/executor/multiproc_executor.py.
RANK_DIED = (
    "(MainProcess pid=1) ERROR 11-25 15:05:54 [multiproc_executor.py:315] Worker proc VllmWorker-0 "
    "died unexpectedly (exit code: -9), shutting down executor.\n"
)


@pytest.mark.parametrize(
    ("log", "cure"),
    [
        (
            CACHE_TOO_SMALL,
            "set engine.max_model_len=2720 (what vLLM estimates to fit), or "
            "engine.gpu_memory_utilization=0.95, or parallelism.tp=4",
        ),
        (
            CACHE_TOO_SMALL_ONCE,
            "set engine.max_model_len=23648, or engine.gpu_memory_utilization=0.95, or "
            "parallelism.tp=4",
        ),
        (NO_CACHE, "set engine.gpu_memory_utilization=0.95, or parallelism.tp=4"),
        (TAKEN, "set engine.gpu_memory_utilization=0.2, or stop the process that uses it"),
        (TAKEN_ON_CPU, "set engine.gpu_memory_utilization=0.1, or stop the process that uses it"),
        (NPU, "set parallelism.tp=4, or quantized weights in model.pretrained"),
        (
            LOADED + NPU,
            "set engine.gpu_memory_utilization=0.86, or engine.extra.max_num_seqs=128, or "
            "parallelism.tp=4",
        ),
        (
            LOADED + CUDA,
            "set engine.gpu_memory_utilization=0.88, or engine.extra.max_num_seqs=128, or "
            "parallelism.tp=4",
        ),
        (SAMPLER, "set engine.extra.max_num_seqs=512"),
    ],
)
def test_what_ran_out_has_a_setting_that_would_do(log: str, cure: str) -> None:
    found = shortage.find(log, ARGUMENTS, "ascend")
    assert found is not None
    assert found.cure == cure


@pytest.mark.parametrize(
    ("more", "cure"),
    [
        ({}, "engine.env.VLLM_CPU_KVCACHE_SPACE=3"),
        ({"kv_cache_memory_bytes": 8_000_000}, "engine.extra.kv_cache_memory_bytes=2421287814"),
    ],
)
def test_a_cpus_cache_has_a_size_of_its_own(more: dict[str, Any], cure: str) -> None:
    found = shortage.find(CACHE_TOO_SMALL, {**ARGUMENTS, **more}, "cpu")
    assert found is not None
    assert found.cure == f"set engine.max_model_len=2720 (what vLLM estimates to fit), or {cure}"


def test_what_is_as_high_as_it_may_be_is_not_raised() -> None:
    found = shortage.find(NO_CACHE, {**ARGUMENTS, "gpu_memory_utilization": 0.97}, "cuda")
    assert found is not None
    assert found.cure == "set parallelism.tp=4"


@pytest.mark.parametrize(
    "log",
    [
        "",
        "INFO Available KV cache memory: 30.5 GiB",
        "INFO Free memory on device (60.1/60.96 GiB) on startup. Desired GPU memory utilization is "
        "(0.9, 54.87 GiB). Actual usage is 15.0 GiB",
    ],
)
def test_memory_that_sufficed_is_no_shortage(log: str) -> None:
    assert shortage.find(log, ARGUMENTS, "ascend") is None


@pytest.mark.parametrize(
    ("reason", "log", "again"),
    [
        ("EngineDeadError: EngineCore encountered an issue.", "", True),
        ("RuntimeError: cancelled", RANK_DIED, True),
        ("RuntimeError: Failed core proc(s): {'EngineCore_DP0': -9}", "", True),
        ("RuntimeError: Failed core proc(s): {'EngineCore_DP0': 1}", "", False),
        ("RuntimeError: Failed core proc(s): {'EngineCore_DP0': 1}", TAKEN, True),
        ("RuntimeError: Failed core proc(s): {'EngineCore_DP0': 1}", LOADED + NPU, False),
        ("EngineDeadError: EngineCore encountered an issue.", LOADED + NPU, False),
        ("ServerError: vllm serve: gave up: connection refused", "", True),
        ("ServerError: vllm serve: no token within limits.stall_s=600 seconds", "", True),
        (
            "ServerError: engine.endpoint.url=http://h: no token within limits.stall_s=9",
            "",
            False,
        ),
        ("ModuleNotFoundError: No module named 'torch_npu'", "Traceback", False),
    ],
)
def test_only_what_another_attempt_may_mend_is_tried_again(
    plan: Plan, reason: str, log: str, again: bool
) -> None:
    assert failures.reported(reason, log, plan).transient is again


def test_a_stall_whose_cause_is_in_the_log_names_it(plan: Plan) -> None:
    stalled = Failure("the engine produced no token", transient=True)
    assert failures.observed(stalled, "all is well", plan) == stalled
    found = failures.observed(stalled, LOADED + NPU, replace(plan, engine_args=ARGUMENTS))
    assert found.reason == (
        "the engine produced no token; out of memory: could not allocate 3.47 GiB on the device "
        "in addition to the weights and the KV cache; set engine.gpu_memory_utilization=0.86, or "
        "engine.extra.max_num_seqs=128, or parallelism.tp=4"
    )
    assert not found.transient


def test_a_rank_that_died_is_named(plan: Plan) -> None:
    assert failures.reported("RuntimeError: cancelled", RANK_DIED, plan).reason == (
        "RuntimeError: cancelled; Worker proc VllmWorker-0 died unexpectedly (exit code: -9)"
    )
