"""Every model of conf/model as shipped: what each release of vLLM and vllm-ascend makes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.memory.architecture import longest
from tests.contract.client import Upstream
from tests.contract.grid import Case, models

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("model", models())
def test_a_model_as_shipped_comes_to_what_its_file_says(
    model: str, upstream: Callable[[str], Upstream]
) -> None:
    """conf/model's serving settings survive vLLM's and vllm-ascend's own rewriting."""
    case = Case("A2", model)
    answer = upstream("A2").ask(case.engine_args(), case.plan.environment)
    assert answer.refused is None
    assert not case.ours()
    config, facts = case.config, answer.facts
    wanted = {
        "max_model_len": config.engine.max_model_len,
        "tensor_parallel_size": config.parallelism.tp,
        "pipeline_parallel_size": config.parallelism.pp,
        "expert_parallel": config.parallelism.ep,
        "quantization": config.engine.quantization,
        "enforce_eager": config.engine.enforce_eager,
        "gpu_memory_utilization": config.engine.gpu_memory_utilization,
        "cudagraph_mode": "NONE" if config.engine.enforce_eager else "FULL_AND_PIECEWISE",
        "worker_cls": "vllm_ascend.worker.worker.NPUWorker",
        "use_inductor": False,
        "seed": 0,
        "alloc_conf": "expandable_segments:True",
    }
    assert {key: facts[key] for key in wanted} == wanted
    # llava's own type is float16, the canary's on an NPU; molmo's float32 is cut to what the
    # platform prefers.
    half = model.startswith(("llava", "canary"))
    assert facts["dtype"] == ("float16" if half else "bfloat16")
    hybrid = model.startswith("qwen3_next")
    assert facts["block_size"] == 128 or hybrid


@pytest.mark.parametrize("model", models())
def test_the_longest_sequence_is_what_vllm_derives(
    model: str, upstream: Callable[[str], Upstream]
) -> None:
    """From positions, a class's defaults and rope scaling: the memory estimate reckons with it."""
    case = Case("A2", model, changes={"engine.max_model_len": None})
    answer = upstream("A2").ask(case.engine_args(), case.plan.environment)
    assert answer.facts["max_model_len"] == longest(case.weights.config)
