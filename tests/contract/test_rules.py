"""Rules that no grid of sizes reaches: one configuration each, judged by both sides."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from runner.platforms.additional_config import SchedulerConfig, names, schema
from tests.contract.client import Upstream
from tests.contract.grid import BEYOND, Case
from tests.contract.judge import about_ours, about_theirs
from tests.contract.wheels import ContractError

pytestmark = pytest.mark.slow

DENSE, MIXTURE = "qwen3_8b", "qwen3_30b_a3b"
OPTIONS = "engine.additional_config"


def option(**values: Any) -> dict[str, Any]:
    return {OPTIONS: values}


def variable(**values: str) -> dict[str, Any]:
    return {"engine.env": values}


# What both refuse, by the key that both name.
REFUSED = [
    (DENSE, {"engine.quantization": "ascend"}, "engine.quantization"),
    (DENSE, {"engine.quantization": "gptq"}, "engine.quantization"),
    (DENSE, {"engine.quantization": "awq"}, "engine.quantization"),
    (DENSE, {"engine.quantization": "bitsandbytes"}, "engine.quantization"),
    (DENSE, {"engine.quantization": "fp8"}, "engine.quantization"),
    (DENSE, {"engine.quantization": "compressed-tensors"}, "engine.quantization"),
    (DENSE, {"engine.quantization": "w8a8"}, "engine.quantization"),
    ("qwen3_8b_w8a8", {"engine.quantization": "compressed-tensors"}, "engine.quantization"),
    (DENSE, variable(ASCEND_LAUNCH_BLOCKING="1"), "ASCEND_LAUNCH_BLOCKING"),
    (DENSE, option(enable_flashcomm1=True), f"{OPTIONS}.enable_flashcomm1"),
    (DENSE, variable(VLLM_ASCEND_ENABLE_FLASHCOMM1="1"), f"{OPTIONS}.enable_flashcomm1"),
    (
        MIXTURE,
        {"parallelism.tp": 2, "parallelism.ep": False, **option(enable_flashcomm1=True)},
        f"{OPTIONS}.enable_flashcomm1",
    ),
    (DENSE, option(recompute_scheduler_enable=True), f"{OPTIONS}.recompute_scheduler_enable"),
    (DENSE, option(layer_sharding=["o_proj"]), f"{OPTIONS}.layer_sharding"),
    (
        DENSE,
        {"parallelism.pp": 2, **option(xlite_graph_config={"enabled": True})},
        f"{OPTIONS}.xlite_graph_config.enabled",
    ),
    (DENSE, {"engine.max_model_len": BEYOND}, "engine.max_model_len"),
    ("molmo_7b_d", {"model.trust_remote_code": False}, "model.trust_remote_code"),
]

# What both accept, right beside what they refuse.
ACCEPTED = [
    (DENSE, {"engine.enforce_eager": True, **variable(ASCEND_LAUNCH_BLOCKING="1")}),
    (DENSE, variable(ASCEND_LAUNCH_BLOCKING="0")),
    (DENSE, {"parallelism.tp": 2, **option(enable_flashcomm1=True)}),
    (DENSE, {**option(enable_flashcomm1=False), **variable(VLLM_ASCEND_ENABLE_FLASHCOMM1="1")}),
    (MIXTURE, {"parallelism.tp": 2, "parallelism.ep": True, **option(enable_flashcomm1=True)}),
    (DENSE, option(xlite_graph_config={"enabled": True})),
    (
        DENSE,
        {"engine.max_model_len": BEYOND, **variable(VLLM_ALLOW_LONG_MAX_MODEL_LEN="1")},
    ),
    ("internlm3_8b", {"engine.max_model_len": 196608}),
    ("qwen3_8b_w8a8", {"engine.quantization": None}),
]

# Rare combinations of vllm-ascend's own options, left to upstream: the worker asks it for the
# configuration before it loads weights and reports what it raises (runtimes/vllm/arguments.py).
LEFT_TO_UPSTREAM = [
    (DENSE, option(enable_flashcomm2_parallel_size=1), "cannot exceed global tensor"),
    (DENSE, option(finegrained_tp_config={"lmhead_tensor_parallel_size": 2}), "only for MOE"),
    (DENSE, option(finegrained_tp_config={"oproj_tensor_parallel_size": 2}), "only .* in D node"),
    (DENSE, option(profiling_chunk_config={"enabled": True}), "requires pipeline parallelism"),
    (DENSE, option(hamming_sparse={"enabled": True}), "sparse_json_location"),
    (DENSE, option(mega_moe_max_tokens=0), "must be a positive integer"),
    (DENSE, option(rejection_sampler_config={"posterior_threshold": 2.0}), r"in \(0, 1\]"),
    (DENSE, option(enable_kv_nz=True), "only supported for mla"),
    (
        DENSE,
        option(
            ascend_compilation_config={"enable_static_kernel": True, "enable_npugraph_ex": False}
        ),
        "requires npugraph_ex",
    ),
    (MIXTURE, option(eplb_config={"dynamic_eplb": True}), "DYNAMIC_EPLB or EXPERT_MAP_RECORD"),
    (
        MIXTURE,
        option(mix_placement=True, multistream_overlap_shared_expert=True),
        "Mix placement is not supported",
    ),
    (
        MIXTURE,
        option(enable_mc2_hierarchy_comm=True, enable_fused_mc2=1),
        "cannot be used with hierarchy",
    ),
    (DENSE, option(dump_config={"level": "L0"}, dump_config_path="f.json"), "Only one of"),
]

# What vllm-ascend lets pass and we do not, with the reason; each is worth a line of preflight.
LET_PASS = [
    (DENSE, "A2", {"parallelism.tp": 32}, "parallelism", "it never counts the devices"),
    (DENSE, "310P", {}, "engine.dtype", "the 310P does not support bfloat16"),
    (
        "llava_onevision_0_5b",
        "310P",
        variable(VLLM_BATCH_INVARIANT="1"),
        "VLLM_BATCH_INVARIANT",
        "the kernels are for A2 and A3",
    ),
    (
        "llava_onevision_0_5b",
        "310P",
        variable(HCCL_DETERMINISTIC="strict"),
        "HCCL_DETERMINISTIC",
        "HCCL's documentation: A2 and A3",
    ),
    (
        DENSE,
        "A2",
        variable(VLLM_WORKER_MULTIPROC_METHOD="fork"),
        "engine.env.VLLM_WORKER_MULTIPROC_METHOD",
        "the forked worker dies once it touches the NPU",
    ),
    (
        DENSE,
        "A2",
        option(enable_reduce_sample=True),
        f"{OPTIONS}.enable_reduce_sample",
        "makes log-probabilities wrong",
    ),
]


@pytest.fixture
def known(release: str, changes: dict[str, Any]) -> None:
    """Leaves out cases of options that only another release has."""
    mine = names(schema(release)) | names(SchedulerConfig)
    if foreign := changes.get(OPTIONS, {}).keys() - mine:
        pytest.skip(f"vllm-ascend {release} has no {', '.join(foreign)}")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(("model", "changes", "about"), REFUSED, ids=str)
def test_both_refuse(
    model: str, changes: dict[str, Any], about: str, upstream: Callable[[str], Upstream]
) -> None:
    case = Case("A2", model, changes=changes)
    answer = upstream("A2").ask(case.engine_args(), case.plan.environment)
    assert about_theirs(answer) == about
    assert about in {about_ours(line) for line in case.ours()}


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(("model", "changes"), ACCEPTED, ids=str)
def test_both_accept(
    model: str, changes: dict[str, Any], upstream: Callable[[str], Upstream]
) -> None:
    case = Case("A2", model, changes=changes)
    answer = upstream("A2").ask(case.engine_args(), case.plan.environment)
    assert answer.refused is None
    assert case.ours() == []


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(("model", "changes", "said"), LEFT_TO_UPSTREAM, ids=str)
def test_only_upstream_refuses(
    model: str, changes: dict[str, Any], said: str, upstream: Callable[[str], Upstream]
) -> None:
    case = Case("A2", model, changes=changes)
    answer = upstream("A2").ask(case.engine_args(), case.plan.environment)
    assert re.search(said, str(answer.refused))
    assert case.ours() == [], "preflight has learnt it: move it to what both refuse"


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(("model", "series", "changes", "about", "why"), LET_PASS, ids=str)
def test_only_we_refuse(
    model: str,
    series: str,
    changes: dict[str, Any],
    about: str,
    why: str,
    upstream: Callable[[str], Upstream],
) -> None:
    case = Case(series, model, changes=changes)
    answer = upstream(series).ask(case.engine_args(), case.plan.environment)
    assert answer.refused is None, f"upstream has learnt it ({why}): let it be the one to say so"
    assert about in {about_ours(line) for line in case.ours()}


def test_modelslim_weights_are_found_without_being_named(
    upstream: Callable[[str], Upstream],
) -> None:
    """engine.quantization=null on quantized weights is not float: the record must say so."""
    case = Case("A2", "qwen3_8b_w8a8", changes={"engine.quantization": None})
    answer = upstream("A2").ask(case.engine_args(), case.plan.environment)
    assert answer.facts["quantization"] == "ascend"
    assert answer.facts["quant_config"] == "AscendModelSlimConfig"


@pytest.mark.parametrize(("name", "value"), [("gpu_memory_utilisation", 0.5), ("max_images", 2)])
def test_an_argument_that_vllm_does_not_know_is_an_error(
    name: str, value: int, upstream: Callable[[str], Upstream]
) -> None:
    """So max_images must become limit_mm_per_prompt, and lm-eval's own keys must stay behind."""
    args = Case("A2", DENSE).engine_args()
    answer = upstream("A2").ask({**args, name: value})
    assert answer.type == "TypeError"
    assert name in str(answer.refused)


def test_no_case_leaves_anything_to_the_next(upstream: Callable[[str], Upstream]) -> None:
    """vllm-ascend keeps flashcomm and "is it MoE" in globals; a fork a case keeps them apart."""
    first = Case("A2", MIXTURE, changes={"parallelism.tp": 2, **option(enable_flashcomm1=True)})
    assert (
        upstream("A2")
        .ask(first.engine_args(), {"ASCEND_LAUNCH_BLOCKING": "0"})
        .facts["enable_flashcomm1"]
    )
    second = Case("A2", DENSE)
    answer = upstream("A2").ask(second.engine_args())
    assert answer.refused is None
    assert answer.facts["enable_flashcomm1"] is False


def test_a_broken_question_is_no_answer(upstream: Callable[[str], Upstream]) -> None:
    with pytest.raises(ContractError, match="no answer"):
        upstream("A2").ask({"model": "x"}, {"NAME": 1})  # type: ignore[dict-item]
