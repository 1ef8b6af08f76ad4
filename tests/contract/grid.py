"""The cases: what conf/ composes to, what we say of it, and what lm-eval would hand to vLLM."""

from __future__ import annotations

import copy
import functools
import json
import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import yaml
from omegaconf import MISSING

from runner import canary
from runner.canary import moe
from runner.config import loading
from runner.config.schema import RunConfig
from runner.inputs.weights import Weights
from runner.plan import Plan
from runner.planning import Facts, make_plan
from runner.platforms.ascend import Machine
from runner.platforms.base import Device
from runner.preflight import ascend, layout

MODELS = Path(__file__).parent / "models"
CANARIES = {"canary_vl": canary.WEIGHTS, "canary_moe": moe.WEIGHTS}
SERIES = ("A2", "A3", "310P")
CHIPS = {"A2": ("Ascend 910B4", 64), "A3": ("Ascend910", 64), "310P": ("Ascend 310P3", 44)}
NIGHTLY = re.compile(r"tests/e2e/(nightly|weekly)/")
# More tokens than any model that we ship can take.
BEYOND = 1_000_000

# Parameters of lm-eval's vLLM classes that end there (test_lm_eval.py holds this against them).
KEPT_BY_LM_EVAL = {
    "add_bos_token",
    "batch_size",
    "chat_template_args",
    "data_parallel_size",
    "enable_thinking",
    "image_height",
    "image_max_side",
    "image_width",
    "interleave",
    "lora_local_path",
    "max_batch_size",
    "max_gen_toks",
    "max_images",
    "max_length",
    "prefix_token_id",
    "think_end_token",
    "truncation_side",
}


@dataclass(frozen=True)
class Case:
    """One configuration on one machine; `changes` are dotted keys, set after composing."""

    series: str
    model: str
    engine: str = "ascend"
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        changes = " ".join(f"{key}={value}" for key, value in self.changes.items())
        return f"{self.series} model={self.model} engine={self.engine} {changes}".strip()

    @functools.cached_property
    def config(self) -> RunConfig:
        config = copy.deepcopy(_composed(self.model, self.engine))
        # A user who runs such a model has had to say so.
        config.model.trust_remote_code = config.model.needs_remote_code
        for key, value in self.changes.items():
            path, _, name = key.rpartition(".")
            place = operator.attrgetter(path)(config)
            if isinstance(getattr(place, name), dict):
                getattr(place, name).update(value)
            else:
                setattr(place, name, value)
        return config

    @functools.cached_property
    def weights(self) -> Weights:
        directory = CANARIES.get(self.model, MODELS / self.model)
        return Weights(directory, json.loads((directory / "config.json").read_text()), "")

    @functools.cached_property
    def plan(self) -> Plan:
        facts = Facts(
            versions={},
            device="Ascend",
            weights="",
            data="",
            environment={"VLLM_WORKER_MULTIPROC_METHOD": "spawn"},
            series=self.series,
        )
        return make_plan(self.config, facts)

    def engine_args(self) -> dict[str, Any]:
        """The keyword arguments of `vllm.LLM`, as lm-eval makes them of the plan's.

        With `engine=served` they are those of `vllm serve`, which include the replicas.
        """
        given = self.plan.engine_args
        handed: dict[str, Any] = {"tokenizer_mode": "auto", "max_num_seqs": None}
        handed |= {"enable_lora": False, "max_lora_rank": 16}
        handed |= {key: value for key, value in given.items() if key not in KEPT_BY_LM_EVAL}
        handed["model"] = str(self.weights.directory)
        del handed["pretrained"]
        if handed.pop("server", None):
            handed["data_parallel_size"] = given.get("data_parallel_size", 1)
        if "max_images" in given:
            handed["limit_mm_per_prompt"] = {"image": given["max_images"]}
        return handed

    def ours(self) -> list[str]:
        """What preflight says against it, a line each."""
        chip, gib = CHIPS[self.series]
        devices = tuple(
            Device(index, chip, memory_total_bytes=gib << 30, memory_used_bytes=0, health="OK")
            for index in range(16)
        )
        machine = Machine(devices, self.series, self.series, versions={}, unknown={})
        found = layout.problems(self.config, self.weights.config)
        found += ascend.problems(self.config, self.weights, machine, self.plan.environment)
        return [problem.what for problem in found]


def models() -> list[str]:
    """All that conf/model has from the lm-eval test, and the canaries."""
    return sorted(name for name, model in _shipped().items() if not _is_nightly(model))


def nightly_models() -> list[str]:
    """Models of the nightly tests with a layout of their own.

    The others were published with servers on several nodes: their files have no engine argument.
    """
    return sorted(
        name
        for name, model in _shipped().items()
        if _is_nightly(model) and model["serve"].keys() != {"window"}
    )


def _shipped() -> dict[str, dict[str, Any]]:
    files = (loading.config_directory() / "model").glob("*.yaml")
    found = {file.stem: yaml.safe_load(file.read_text("utf-8")) for file in files}
    return {name: each for name, each in found.items() if each.get("pretrained") != MISSING}


def _is_nightly(model: Mapping[str, Any]) -> bool:
    return NIGHTLY.search(str(model.get("source"))) is not None


def presets() -> list[str]:
    directory = loading.config_directory() / "engine"
    return sorted(file.stem for file in directory.glob("ascend*.yaml"))


def grid(series: str) -> Iterator[Case]:
    """Every model and preset at every tp; lengths with one preset; other settings once a model.

    The whole product would take three times as long: presets and lengths meet nowhere upstream.
    """
    for model in models():
        for tp in (1, 2, 4, 8):
            for engine in presets():
                yield Case(series, model, engine, {"parallelism.tp": tp})
            for length in (4096, 8192):
                changes = {"parallelism.tp": tp, "engine.max_model_len": length}
                yield Case(series, model, changes=changes)
        yield from (Case(series, model, changes=changes) for changes in _once())


def _once() -> Iterator[dict[str, Any]]:
    for tp in (1, 2, 4, 8):
        yield {"parallelism.tp": tp, "engine.dtype": "float16"}
    yield {"parallelism.pp": 2}
    yield {"model.trust_remote_code": False}
    for length in (None, BEYOND):
        yield {"engine.max_model_len": length}
    for quantization in (None, "ascend"):
        yield {"engine.quantization": quantization}
    flash = {"engine.additional_config": {"enable_flashcomm1": True}}
    for ep in (False, True):
        yield {"parallelism.ep": ep}
        yield {"parallelism.tp": 2, "parallelism.ep": ep, **flash}


@functools.cache
def _composed(model: str, engine: str) -> RunConfig:
    loading.register()
    directory = str(loading.config_directory())
    chosen = [f"model={model}", f"engine={engine}", "engine.platform=ascend"]
    chosen += ["tracking=off", "output_dir=unused"]
    with hydra.initialize_config_dir(directory, version_base="1.3"):
        return loading.load(hydra.compose("config", chosen))
