"""Each refusal on Ascend: its reason and its cure, and what is let through beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.config.schema import RunConfig
from runner.inputs.weights import Weights
from runner.platforms import Device
from runner.platforms.ascend import Machine
from runner.platforms.base import DeviceProcess
from runner.preflight import Findings, look
from runner.preflight.ascend import problems, warnings
from runner.problem import Problem, with_cures_that_help
from tests.imitation import imitate

GIB = 1 << 30
A2 = Machine(
    devices=tuple(Device(index, "Ascend 910B3", 64 * GIB, 3 * GIB, "OK") for index in range(8)),
    series="A2",
    built_for="A2",
    versions={"cann": "9.1.0", "driver": "25.5.0", "firmware": "7.8.0", "npu-smi": "25.5.0"},
    unknown={},
)
SMALL = Machine(
    devices=(Device(0, "Ascend 310P3", 21 * GIB, 2 * GIB, "OK"),),
    series="310P",
    built_for="310P",
    versions=A2.versions,
    unknown={},
)
Check = Callable[..., list[str]]


@pytest.fixture
def check(config: RunConfig) -> Check:
    """Problems of the fixed run (tp=2, bfloat16, graph mode) with this and that changed."""

    def checked(
        machine: Machine = A2,
        weights: Weights | None = None,
        variables: dict[str, str] | None = None,
        **changes: Any,
    ) -> list[str]:
        changed = config
        for key, value in changes.items():
            group, _, name = key.partition("__")
            part = replace(getattr(changed, group), **{name: value})
            changed = replace(changed, **{group: part})
        seen = {**changed.engine.env, **(variables or {})}

        def judge(config: RunConfig) -> list[Problem]:
            mine = {**seen, **config.engine.env}
            return problems(config, weights, machine, mine)

        return [str(problem) for problem in with_cures_that_help(changed, judge)]

    return checked


def weights(directory: Path | None = None, **config: Any) -> Weights:
    return Weights(directory=directory, config=config)


def machine(*changed: Device) -> Machine:
    by_index = {device.index: device for device in changed}
    return replace(A2, devices=tuple(by_index.get(each.index, each) for each in A2.devices))


def test_a_sound_machine_has_nothing_against_it(check: Check) -> None:
    assert check() == []


def test_more_ranks_than_devices(check: Check) -> None:
    (said,) = check(parallelism__tp=16)
    assert said.startswith("parallelism: tp×pp×dp=16 needs 16 NPUs, 8 here; use parallelism.tp=8")


def test_more_ranks_than_visible_devices(check: Check) -> None:
    (said,) = check(variables={"ASCEND_RT_VISIBLE_DEVICES": "4"})
    assert "8 here, 1 visible" in said
    assert check(variables={"ASCEND_RT_VISIBLE_DEVICES": "4,5"}) == []


def test_devices_out_of_order_are_none(check: Check) -> None:
    (said,) = check(variables={"ASCEND_RT_VISIBLE_DEVICES": "1,0"})
    assert said.startswith("ASCEND_RT_VISIBLE_DEVICES=1,0: ")
    assert "ascending" in said


def test_a_device_number_that_does_not_exist_is_named(check: Check) -> None:
    (said,) = check(variables={"ASCEND_RT_VISIBLE_DEVICES": "7,8"})
    assert "8 here, 1 visible" in said
    assert "no device 8" in said


def test_an_engine_over_several_nodes_is_not_counted_against_one(check: Check) -> None:
    assert check(parallelism__tp=16, engine__extra={"distributed_executor_backend": "ray"}) == []


def test_ill_devices_do_not_count(check: Check) -> None:
    ill = [replace(A2.devices[index], health="Alarm") for index in range(7)]
    (said,) = check(machine(*ill))
    assert "1 of the 8 visible are healthy and free" in said
    assert "NPU 0: health Alarm" in said


def test_a_device_with_a_warning_counts(check: Check, config: RunConfig) -> None:
    warned = machine(*(replace(each, health="Warning") for each in A2.devices[:7]))
    assert check(warned) == []
    (said,) = warnings(config, warned, {})
    assert said.startswith("NPU 0: health Warning, "), "the other rank runs on the sound one"
    two_sound = machine(*(replace(each, health="Warning") for each in A2.devices[:6]))
    assert warnings(config, two_sound, {}) == []


@pytest.mark.parametrize(
    ("ill", "taken", "switches"),
    [
        ([0, 1, 2, 3, 4, 5, 6], [], ["allow_unhealthy"]),
        ([], [0, 1, 2, 3, 4, 5, 6], ["allow_oversized"]),
        ([0, 1, 2], [3, 4, 5, 6, 7], ["allow_oversized"]),
        ([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6], ["allow_oversized", "allow_unhealthy"]),
    ],
)
def test_ill_and_taken_devices_are_allowed_by_switches_of_their_own(
    check: Check, ill: list[int], taken: list[int], switches: list[str]
) -> None:
    devices = [
        replace(
            each,
            health="Alarm" if each.index in ill else "OK",
            memory_used_bytes=(61 if each.index in taken else 3) * GIB,
        )
        for each in A2.devices
    ]
    (said,) = check(machine(*devices))
    assert said.endswith(
        "run anyway with " + " ".join(f"engine.{switch}=true" for switch in switches)
    )


def test_fewer_devices_than_npu_smi_shows_are_explained(check: Check) -> None:
    container = replace(A2, devices=A2.devices[:2], shown=8)
    (said,) = check(container, parallelism__tp=4)
    assert said == (
        "parallelism: tp×pp×dp=4 needs 4 NPUs, 2 here of the 8 that npu-smi shows "
        "(/dev/davinci* has no more); use parallelism.tp=2"
    )


def test_devices_whose_memory_is_taken_name_who_holds_it(check: Check) -> None:
    holder = DeviceProcess(4711, "VLLMWorker_TP", 58 * GIB)
    taken = [
        replace(A2.devices[index], memory_used_bytes=61 * GIB, processes=(holder,))
        for index in range(7)
    ]
    (said,) = check(machine(*taken))
    assert "VLLMWorker_TP (pid 4711, 58.0 GiB)" in said


def test_enough_devices_beside_taken_ones(check: Check) -> None:
    taken = [replace(A2.devices[index], memory_used_bytes=61 * GIB) for index in range(6)]
    assert check(machine(*taken)) == []


def test_a_smaller_share_fits_beside_another_process(check: Check) -> None:
    half = machine(*(replace(each, memory_used_bytes=30 * GIB) for each in A2.devices))
    assert "34.0 of 64.0 GiB free" in check(half)[0]
    assert check(half, engine__gpu_memory_utilization=0.5) == []


def test_a_build_for_another_series(check: Check) -> None:
    (said,) = check(replace(A2, built_for="A3"))
    assert "built for A3, this machine is A2" in said
    assert "container image" in said
    assert check(replace(A2, built_for=None)) == []
    assert check(replace(A2, series=None, built_for="A3")) == []


@pytest.mark.parametrize("own", ["bfloat16", "float32", None])
def test_no_bfloat16_on_310p(check: Check, own: str | None) -> None:
    dtype = "auto" if own else "bfloat16"
    model = weights(torch_dtype=own) if own else None
    (said,) = check(SMALL, model, parallelism__tp=1, engine__dtype=dtype)
    assert said.startswith(f"engine.dtype={dtype}")
    assert "; use engine.dtype=float16, or run anyway" in said
    assert check(SMALL, model, parallelism__tp=1, engine__dtype="float16") == []


def test_a_model_that_a_310p_cannot_run_in_any_type(check: Check) -> None:
    gemma = weights(model_type="gemma3", torch_dtype="bfloat16")
    (said,) = check(SMALL, gemma, parallelism__tp=1, engine__dtype="auto")
    assert "vLLM does not run this model in float16 either, or run anyway" in said
    (said,) = check(SMALL, gemma, parallelism__tp=1, engine__dtype="float16")
    assert said.startswith(
        "engine.dtype=float16: vLLM does not support it for gemma3; run it on another"
    )


def test_attention_takes_16_bits(check: Check) -> None:
    (said,) = check(engine__dtype="float32")
    assert said.startswith("engine.dtype=float32: ")


def test_a_multimodal_models_own_bfloat16_is_found(check: Check) -> None:
    model = weights(text_config={"dtype": "bfloat16", "hidden_size": 64})
    assert check(SMALL, model, parallelism__tp=1, engine__dtype="auto")


@pytest.mark.parametrize(
    "name,value", [("VLLM_BATCH_INVARIANT", "1"), ("HCCL_DETERMINISTIC", "strict")]
)
def test_what_only_a2_and_a3_can_repeat(check: Check, name: str, value: str) -> None:
    small = {"parallelism__tp": 1, "engine__dtype": "float16"}
    (said,) = check(SMALL, variables={name: value}, **small)
    assert said.startswith(f"{name}={value}: ")
    assert check(variables={name: value}) == []


def test_workers_are_spawned(check: Check) -> None:
    (said,) = check(engine__env={"VLLM_WORKER_MULTIPROC_METHOD": "fork"})
    assert "must be spawn" in said
    assert check(engine__env={"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}) == []


def test_blocking_launches_and_graphs_exclude_each_other(check: Check) -> None:
    variables = {"ASCEND_LAUNCH_BLOCKING": "1"}
    (said,) = check(variables=variables)
    assert "engine.enforce_eager=true" in said
    assert check(variables=variables, engine__enforce_eager=True) == []


def test_flashcomm1_needs_ranks_and_expert_parallel_for_experts(check: Check) -> None:
    option = {"engine__additional_config": {"enable_flashcomm1": True}}
    assert check(**option) == []
    assert "parallelism.tp=2 or more" in check(parallelism__tp=1, **option)[0]
    experts = weights(num_experts=128)
    assert "parallelism.ep=true" in check(A2, experts, **option)[0]
    assert check(A2, experts, parallelism__ep=True, **option) == []


def test_flashcomm1_by_its_variable(check: Check) -> None:
    variables = {"VLLM_ASCEND_ENABLE_FLASHCOMM1": "1"}
    assert check(variables=variables, parallelism__tp=1)
    off = {"engine__additional_config": {"enable_flashcomm1": False}}
    assert check(variables=variables, parallelism__tp=1, **off) == []


@pytest.mark.parametrize(
    "option",
    [
        {"recompute_scheduler_enable": True},
        {"layer_sharding": ["o_proj"]},
        {"enable_reduce_sample": True},
    ],
)
def test_options_that_spoil_a_measurement(check: Check, option: dict[str, Any]) -> None:
    (said,) = check(engine__additional_config=option)
    assert said.startswith(f"engine.additional_config.{next(iter(option))}: ")
    assert "leave it out" in said


def test_xlite_has_no_pipeline(check: Check) -> None:
    option = {"engine__additional_config": {"xlite_graph_config": {"enabled": True}}}
    assert check(**option) == []
    assert "parallelism.pp=1" in check(parallelism__pp=2, **option)[0]


def test_a_quantization_that_vllm_ascend_lacks(check: Check) -> None:
    (said,) = check(engine__quantization="awq")
    assert said.startswith(
        "engine.quantization=awq: vllm-ascend supports only ascend, compressed-tensors"
    )
    model = weights(quantization_config={"quant_method": "gptq"})
    assert "quantized with gptq" in check(A2, model)[0]


def test_modelslim_weights_have_their_file(check: Check, tmp_path: Path) -> None:
    model = weights(tmp_path)
    (said,) = check(A2, model, engine__quantization="ascend")
    assert "no quant_model_description.json" in said
    (tmp_path / "quant_model_description.json").write_text(json.dumps({}))
    assert check(A2, model, engine__quantization="ascend") == []


def test_compressed_tensors_say_so_in_their_config(check: Check, tmp_path: Path) -> None:
    (said,) = check(A2, weights(tmp_path), engine__quantization="compressed-tensors")
    assert "no quantization_config of that method" in said
    model = weights(tmp_path, quantization_config={"quant_method": "compressed-tensors"})
    assert check(A2, model, engine__quantization="compressed-tensors") == []


def test_an_unknown_machine_is_given_the_benefit_of_the_doubt(check: Check) -> None:
    bare = Machine(
        devices=(Device(0, "Ascend"), Device(1, "Ascend")),
        series=None,
        built_for=None,
        versions={name: "unknown" for name in A2.versions},
        unknown={"chip": ("npu-smi: not found",)},
    )
    assert check(bare) == []


def test_missing_batch_invariant_kernels_are_told(config: RunConfig) -> None:
    assert warnings(config, A2, {}) == []
    (said,) = warnings(config, A2, {"VLLM_BATCH_INVARIANT": "1"})
    assert "batch_invariant_ops is not installed" in said


# The whole look, on an imitated machine


@pytest.fixture
def machine_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    def see(*arguments: Any, **options: Any) -> None:
        made = imitate(tmp_path, *arguments, **options)
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.syspath_prepend(str(made.site))
        for name in ("ASCEND_RT_VISIBLE_DEVICES", "ASCEND_HOME_PATH"):
            monkeypatch.delenv(name, raising=False)

    return see


@pytest.fixture
def canary(compose: Callable[..., RunConfig]) -> Callable[..., Findings]:
    return lambda *overrides: look(compose("engine=ascend", *overrides))


def test_a_sound_machine_runs_the_canary(
    machine_of: Callable[..., None], canary: Callable[..., Findings]
) -> None:
    machine_of("A2")
    found = canary("parallelism.tp=2")
    assert found.problems == []
    assert found.environment == {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}


def test_devices_that_are_taken_are_steered_around(
    machine_of: Callable[..., None], canary: Callable[..., Findings]
) -> None:
    machine_of("A3", busy=[0, 1], unhealthy=[3])
    found = canary("parallelism.tp=2", "engine.gpu_memory_utilization=0.9")
    assert found.problems == []
    assert found.environment["ASCEND_RT_VISIBLE_DEVICES"] == "2,4"


def test_versions_that_do_not_belong_together(
    machine_of: Callable[..., None], canary: Callable[..., Findings]
) -> None:
    machine_of("A2", cann="8.5.1")
    (said,) = canary().problems
    assert said.startswith("CANN 8.5.1 is installed")
    found = canary("engine.allow_untested=true")
    assert found.problems == []
    (told,) = found.overruled
    assert told.startswith("CANN 8.5.1 is installed")
    assert told.endswith("(engine.allow_untested=true)")
    assert f"overridden check: {told}" in found.warnings


QWEN3_235B = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 94,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "hidden_size": 4096,
    "num_experts": 128,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
}
# Bytes of its 16-bit weights (model.safetensors.index.json, metadata.total_size).
QWEN3_235B_BYTES = 470187269120


def test_a_share_is_one_of_the_memory_that_torch_npu_sees(
    machine_of: Callable[..., None], compose: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """55.1 GiB a device fit 0.9 of the 64 that npu-smi shows, not of the 60.96 of torch_npu."""
    machine_of("A2")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(QWEN3_235B))
    with (model / "pytorch_model.bin").open("wb") as sparse:
        sparse.truncate(QWEN3_235B_BYTES)
    large = ["engine=ascend", "model=qwen3_8b", f"model.pretrained={model}", "parallelism.tp=8"]
    large += ["engine.max_model_len=8192"]

    def said(*more: str) -> Findings:
        return look(compose(*large, *more))

    (refused,) = said("engine.gpu_memory_utilization=0.9").problems
    assert "leaves 54.9 of 61.0 GiB (what the engine sees of 64.0)" in refused
    (share,) = re.findall(r"(engine\.gpu_memory_utilization=[0-9.]+) or more", refused)
    assert said(share).problems == []
    found = said("engine.gpu_memory_utilization=0.9", "engine.allow_oversized=true")
    assert found.problems == []
    assert found.overruled == [
        refused.partition("; use ")[0] + " (engine.allow_oversized=true)",
    ]


def test_an_engine_over_several_nodes_takes_its_variables_along(
    machine_of: Callable[..., None], canary: Callable[..., Findings]
) -> None:
    machine_of("A2", devices=1)
    spread = "++engine.extra.distributed_executor_backend=ray"
    found = canary("engine=ascend_deterministic", "parallelism.tp=4", spread)
    assert found.problems == []
    assert found.environment["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert found.environment["VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"] == (
        "ATB_LLM_LCOC_ENABLE,ATB_MATMUL_SHUFFLE_K_ENABLE,HCCL_DETERMINISTIC,LCCL_DETERMINISTIC"
    )


def test_weights_that_have_no_room(
    machine_of: Callable[..., None], canary: Callable[..., Findings]
) -> None:
    machine_of("310P")
    (said,) = canary("engine.dtype=float16", "engine.gpu_memory_utilization=0.00005").problems
    assert "GiB per device" in said


def test_data_parallel(machine_of: Callable[..., None], canary: Callable[..., Findings]) -> None:
    machine_of("A2")
    (said,) = canary("parallelism.dp=2").problems
    assert said.startswith("parallelism.dp=2: lm-eval would start these engines in its own Ray")
