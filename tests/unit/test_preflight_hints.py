"""A setting that a refusal advises is not refused in its turn, whatever the model and machine."""

from __future__ import annotations

import copy
import json
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from runner.config.schema import RunConfig
from runner.inputs.weights import Weights
from runner.memory import stored_weights
from runner.platforms import PLATFORMS, Device
from runner.platforms.ascend import Ascend, Machine
from runner.platforms.base import DeviceIds
from runner.preflight.here import Here
from runner.problem import Problem, changed, with_cures_that_help

GIB = 1 << 30
ADVICE = re.compile(r"; use (?P<cures>[a-z]+\..*?)(?:, or run anyway.*)?$")
SWITCHES = re.compile(r"run anyway with (?P<switches>.*)$")
CHIPS = {"A2": ("Ascend 910B3", 64), "310P": ("Ascend 310P3", 21)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By GiB: directories whose files claim so much; their headers are all that is read."""
    made = {}
    for gib in (1, 14, 60, 400):
        made[gib] = tmp_path_factory.mktemp(f"weights-{gib}")
        shape = [gib * GIB // 2 // 4096, 4096]
        tensor = {"dtype": "BF16", "shape": shape, "data_offsets": [0, gib * GIB]}
        header = json.dumps({"model.layers.0.mlp.up_proj.weight": tensor}).encode()
        (made[gib] / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return made


@st.composite
def models(draw: st.DrawFn) -> dict[str, Any]:
    heads = draw(st.sampled_from([8, 12, 28, 64]))
    return {
        "model_type": draw(st.sampled_from(["llama", "gemma3_text", "mistral"])),
        "num_hidden_layers": 48,
        "num_attention_heads": heads,
        "num_key_value_heads": 4,
        "hidden_size": heads * 128,
        "head_dim": 128,
        "max_position_embeddings": draw(st.sampled_from([1024, 32768, 262144])),
        "num_experts": draw(st.sampled_from([None, 64])),
        "torch_dtype": draw(st.sampled_from(["bfloat16", "float16", "float32"])),
        "quantization_config": draw(st.sampled_from([None, {"quant_method": "gptq"}])),
    }


def machines() -> st.SearchStrategy[Machine]:
    def machine(series: str, health: list[str]) -> Machine:
        chip, gib = CHIPS[series]
        devices = tuple(
            Device(
                *(index, chip, gib * GIB, GIB, each),
                memory_seen_bytes=int(0.95 * gib * GIB),
                ids=DeviceIds(index + 5, 0),
            )
            for index, each in enumerate(health)
        )
        return Machine(devices, series, series, {"cann": "unknown"}, {})

    health = st.lists(st.sampled_from(["OK", "OK", "Warning", "Alarm"]), min_size=1, max_size=16)
    return st.builds(machine, st.sampled_from(sorted(CHIPS)), health)


SETTINGS = {
    "parallelism.tp": st.integers(1, 16),
    "parallelism.pp": st.sampled_from([1, 1, 2]),
    "parallelism.dp": st.sampled_from([1, 1, 2]),
    "parallelism.ep": st.booleans(),
    "engine.dtype": st.sampled_from(["auto", "bfloat16", "float16", "float32"]),
    "engine.max_model_len": st.sampled_from([None, 512, 4096, 60000, 500_000]),
    "engine.gpu_memory_utilization": st.sampled_from([0.3, 0.9]),
    "engine.quantization": st.sampled_from([None, None, "ascend", "awq", "fp8"]),
    "engine.env": st.sampled_from(
        [{}, {"ASCEND_LAUNCH_BLOCKING": "1"}, {"HCCL_DETERMINISTIC": "strict"}]
    ),
    "engine.additional_config": st.sampled_from(
        [{}, {"enable_flashcomm1": True}, {"xlite_graph_config": {"enabled": True}}]
    ),
}


def refused(config: RunConfig, problems: Sequence[Problem]) -> set[str]:
    return {each.what for each in problems if not each.allowed(config.engine)}


def advised(text: str) -> Iterator[dict[str, Any]]:
    """Each setting that the message tells to use, read as a person would type it."""
    found = ADVICE.search(text)
    for setting in re.split(r", or ", found["cures"]) if found else []:
        words = re.sub(r" or (more|less)$", "", setting).split()
        pairs = dict(word.split("=") for word in words)
        # engine.env holds texts, whatever they look like.
        yield {k: v if ".env." in k else yaml.safe_load(v) for k, v in pairs.items()}


@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    model=models(),
    machine=machines(),
    gib=st.sampled_from([1, 14, 60, 400]),
    chosen=st.fixed_dictionaries(SETTINGS),
)
def test_no_advice_leads_to_another_refusal(
    config: RunConfig,
    weights: dict[int, Path],
    monkeypatch: pytest.MonkeyPatch,
    model: dict[str, Any],
    machine: Machine,
    gib: int,
    chosen: dict[str, Any],
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Ascend, "machine", lambda self, python: machine)
        patched.delenv("ASCEND_RT_VISIBLE_DEVICES", raising=False)
        directory = weights[gib]
        here = Here(
            *(PLATFORMS["ascend"], (), Weights(directory, model, "")),
            stored_weights(directory),
            machine.devices,
        )
        asked = changed(config, copy.deepcopy(chosen))
        problems = with_cures_that_help(asked, here.problems)
        standing = refused(asked, problems)
        event(f"{min(len(standing), 3)} refusals")

        def left(setting: dict[str, Any]) -> set[str]:
            cured = changed(asked, setting)
            return refused(cured, here.problems(cured))

        for problem in problems:
            for setting in advised(str(problem)):
                event(f"advice: {' '.join(setting)}")
                assert left(setting) <= standing - {problem.what}, setting
            if found := SWITCHES.search(str(problem)):
                overruled = {word.partition("=")[0]: True for word in found["switches"].split()}
                assert left(overruled) <= standing - {problem.what}
