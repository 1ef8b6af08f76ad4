"""The differences of two recorded configurations, as switches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from runner.config.recorded import ABSENT, Recorded
from runner.environment import Environment
from runner.why.switches import Cost, Differences, differences, grounded, set_aside

BASE = {
    "engine": {
        "window": 8,
        "dtype": "float32",
        "quantization": None,
        "allow_untested": False,
        "extra": {"block_size": 16},
        "env": {"VLLM_CPU_KVCACHE_SPACE": "1"},
        "endpoint": {"url": None},
    },
    "parallelism": {"tp": 1, "pp": 1, "dp": 1, "ep": False},
    "model": {"name": "m", "pretrained": "/w/a", "hub": "hf", "enable_thinking": None},
    "task": {"names": ["gsm8k"], "limit": None, "num_fewshot": 5},
    "verdict": {"rule": "baseline"},
    "tracking": {"uri": "sqlite:///a.db"},
    "output_dir": "/o/a",
}


def recorded(changes: Mapping[str, Any] | None = None, gone: tuple[str, ...] = ()) -> Recorded:
    tree = OmegaConf.create(BASE)
    assert isinstance(tree, DictConfig)
    for key, value in (changes or {}).items():
        OmegaConf.update(tree, key, value, force_add=True)
    for key in gone:
        above, _, name = key.rpartition(".")
        OmegaConf.select(tree, above).pop(name)
    return Recorded(tree)


def between(
    bad: Mapping[str, Any],
    good: Mapping[str, Any] | None = None,
    environments: tuple[Environment | None, Environment | None] = (None, None),
) -> Differences:
    return differences(recorded(good), recorded(bad), environments)


def names(found: Differences) -> list[str]:
    return [each.name for each in found.switches]


def test_equal_configurations_have_no_switches(environment: Environment) -> None:
    assert between({}, environments=(environment, environment)) == Differences(())


def test_settings_of_where_results_go_are_no_difference() -> None:
    moved = {"output_dir": "/o/b", "tracking.uri": "sqlite:///b.db", "verdict.rule": "replay"}
    assert between(moved) == Differences(())


def test_settings_that_move_together_are_one_switch() -> None:
    found = between(
        {
            "parallelism.tp": 2,
            "parallelism.ep": True,
            "parallelism.pp": 2,
            "model.pretrained": "/w/b",
            "engine.quantization": "ascend",
        }
    )
    assert names(found) == [
        "parallelism.tp + parallelism.ep",
        "parallelism.pp",
        "model.pretrained + engine.quantization",
    ]
    assert found.switches[0].bad == {"parallelism.tp": 2, "parallelism.ep": True}


def test_the_cheapest_switches_come_first() -> None:
    found = between({"model.pretrained": "/w/b", "engine.dtype": "bfloat16", "engine.window": 4})
    assert [each.cost for each in found.switches] == [Cost.RUNNING, Cost.RESTART, Cost.WEIGHTS]
    assert names(found) == ["engine.window", "engine.dtype", "model.pretrained"]


def test_what_is_asked_is_listed_and_not_searched() -> None:
    found = between(
        {
            "task.num_fewshot": 0,
            "task.gen_kwargs": {"temperature": 0.5},
            "model.enable_thinking": True,
            "model.chat_template_args.depth": 3,
            "engine.dtype": "bfloat16",
        }
    )
    assert names(found) == ["engine.dtype"]
    assert sorted(found.asked) == [
        "model.chat_template_args.depth: not set → 3",
        "model.enable_thinking: null → true",
        "task.gen_kwargs.temperature: not set → 0.5",
        "task.num_fewshot: 5 → 0",
    ]


@pytest.mark.parametrize(
    "key",
    [
        "engine.allow_untested",
        "engine.endpoint.url",
        "model.name",
        "model.baselines.gsm8k.exact_match",
        "model.serve.ascend.tp",
        "engine.env.VLLM_LOGGING_LEVEL",
        "engine.env.ASCEND_RT_VISIBLE_DEVICES",
    ],
)
def test_settings_that_cannot_change_a_number(key: str) -> None:
    assert between({key: "1"}).switches == ()


@pytest.mark.parametrize("key", ["engine.env.VLLM_ASCEND_ENABLE_NZ", "engine.env.UNKNOWN"])
def test_variables_that_may(key: str) -> None:
    assert names(between({key: "1"})) == [key]


def test_keys_that_one_run_lacks() -> None:
    one, two = {"engine.extra.max_num_seqs": 8}, {"engine.extra.seed": "a b"}
    found = differences(
        recorded(one), recorded(two, gone=("engine.extra.block_size",)), (None, None)
    )
    values = {each.key: (each.good, each.bad) for s in found.switches for each in s.changes}
    assert values == {
        "engine.extra.max_num_seqs": (8, ABSENT),
        "engine.extra.seed": (ABSENT, "a b"),
        "engine.extra.block_size": (16, ABSENT),
    }
    said = [str(each) for s in found.switches for each in s.changes]
    assert "engine.extra.block_size: 16 → not set" in said
    assert "engine.extra.seed: not set → a b" in said


def test_lists_are_compared_whole() -> None:
    found = between({"engine.extra.sizes": [1, 2]}, good={"engine.extra.sizes": [1]})
    assert [str(each) for each in found.switches[0].changes] == ["engine.extra.sizes: [1] → [1, 2]"]


def test_variables_of_the_shell_become_settings(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {"HCCL_DETERMINISTIC": "true", "OMP_NUM_THREADS": "4", "VLLM_LOGGING_LEVEL": "INFO"}
    two = {"HCCL_DETERMINISTIC": "false", "OMP_NUM_THREADS": "4", "VLLM_USE_V1": "1"}
    shell = {"HCCL_DETERMINISTIC": "false", "OMP_NUM_THREADS": "2", "VLLM_NEW": "1"}
    environments = replace(environment, variables=one), replace(environment, variables=two)
    found = differences(recorded(), recorded(), environments, shell)
    assert names(found) == ["engine.env.HCCL_DETERMINISTIC", "engine.env.VLLM_USE_V1"]
    assert found.switches[1].changes[0].good is ABSENT
    assert found.base == {
        "engine.env.HCCL_DETERMINISTIC": "true",  # what the good run inherited
        "engine.env.OMP_NUM_THREADS": "4",
    }
    assert found.inherited == ("HCCL_DETERMINISTIC", "OMP_NUM_THREADS", "VLLM_NEW")
    config = grounded(replace(recorded(), words=("python", "-m", "runner")), found.base)
    assert config.value("engine.env.OMP_NUM_THREADS") == "4"
    assert config.words[3:] == (
        "engine.env.HCCL_DETERMINISTIC='true'",
        "engine.env.OMP_NUM_THREADS='4'",
    )
    monkeypatch.setenv("HCCL_DETERMINISTIC", "true")
    monkeypatch.delenv("VLLM_USE_V1", raising=False)
    set_aside(found.inherited)
    assert "HCCL_DETERMINISTIC" not in os.environ


def test_engine_env_takes_precedence_over_the_shell(environment: Environment) -> None:
    environments = (
        replace(environment, variables={}),
        replace(environment, variables={"VLLM_X": "0"}),
    )
    setting = {"engine.env.VLLM_X": "1"}
    assert between(setting, setting, environments).switches == ()
    (switch,) = between({}, setting, environments).switches
    assert switch.bad == {"engine.env.VLLM_X": "0"}


def test_a_variable_that_engine_env_sets_is_one_switch(environment: Environment) -> None:
    """It is in the recorded environment as well."""
    one = replace(environment, variables={})
    two = replace(environment, variables={"VLLM_USE_V1": "1"})
    found = between({"engine.env.VLLM_USE_V1": "1"}, environments=(one, two))
    assert names(found) == ["engine.env.VLLM_USE_V1"]
    assert found.base == {} and found.inherited == ()


def test_another_machine_or_software_is_listed(environment: Environment) -> None:
    other = replace(
        environment,
        packages={**environment.packages, "vllm": "0.24.0", "numpy": "2.0"},
        commits={},
        toolkit={**environment.toolkit, "cann": "9.2.0"},
        devices=environment.devices[:1],
    )
    found = between({}, environments=(environment, other))
    assert found.switches == ()
    assert found.environment == (
        "vllm: 0.23.0 → 0.24.0",
        "numpy: not set → 2.0",
        f"commit of vllm: {environment.commits['vllm']} → not set",
        "cann: 9.1.0 → 9.2.0",
        "hardware: 2 × Ascend 910B4 (A2, 64 GiB HBM) → 1 × Ascend 910B4 (A2, 64 GiB HBM)",
    )


def test_a_missing_environment_is_no_difference(environment: Environment) -> None:
    for environments in ((environment, None), (None, environment)):
        found = between({"engine.dtype": "bfloat16"}, environments=environments)
        assert names(found) == ["engine.dtype"]
        assert found.environment == found.inherited == ()


def test_versions_come_with_the_interpreter(environment: Environment) -> None:
    other = replace(environment, packages={**environment.packages, "vllm": "0.24.0"})
    found = between({"engine.python": "/envs/new/bin/python"}, environments=(environment, other))
    assert names(found) == ["engine.python"]
    assert found.versions == ("vllm: 0.23.0 → 0.24.0",) and found.environment == ()
