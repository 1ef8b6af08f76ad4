"""RunConfig → Plan: what reaches the engine, what is asked, and what the fingerprints see."""

from __future__ import annotations

import copy
import json
import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.config.schema import AskConfig, RunConfig, SeriesConfig
from runner.plan import Plan
from runner.planning import Facts, make_plan
from runner.present.lm_eval_command import lm_eval_command
from runner.rundir import read_json, write_json
from tests.baselines import exact

Change = Callable[[RunConfig], None]


def changed(config: RunConfig, facts: Facts, key: str, value: Any) -> Plan:
    """The plan with one dotted key of the configuration set."""
    other = copy.deepcopy(config)
    node: Any = other
    *path, last = key.split(".")
    for name in path:
        node = getattr(node, name)
    setattr(node, last, value)
    return make_plan(other, facts)


# Engine arguments


def test_engine_arguments_of_qwen3(compose: Callable[..., RunConfig], facts: Facts) -> None:
    config = compose("model=qwen3_8b", "engine=ascend", "parallelism.tp=2")
    assert make_plan(config, facts).engine_args == {
        "pretrained": "Qwen/Qwen3-8B",
        "trust_remote_code": False,
        "enable_thinking": False,
        "tensor_parallel_size": 2,
        "dtype": "auto",
        "max_model_len": 4096,
        "enforce_eager": False,
        "gpu_memory_utilization": 0.8,
        "seed": 0,
    }


def test_engine_arguments_of_qwen2_5_vl(compose: Callable[..., RunConfig], facts: Facts) -> None:
    config = compose("model=qwen2_5_vl_7b", "engine=cuda", "model.max_images=2")
    assert make_plan(config, facts).engine_args == {
        "pretrained": "Qwen/Qwen2.5-VL-7B-Instruct",
        "trust_remote_code": False,
        "max_images": 2,
        "tensor_parallel_size": 1,
        "dtype": "auto",
        "max_model_len": 8192,
        "enforce_eager": False,
        "gpu_memory_utilization": 0.9,
        "seed": 0,
    }


def test_engine_arguments_of_the_canary(compose: Callable[..., RunConfig], facts: Facts) -> None:
    args = make_plan(compose("model=canary_vl"), facts).engine_args
    assert (args["max_model_len"], args["dtype"], args["max_images"]) == (1024, "float32", 2)
    assert args["enforce_eager"] is True
    assert Path(args["pretrained"], "config.json").is_file()


def test_null_is_left_to_the_engine(config: RunConfig, facts: Facts) -> None:
    config.engine.max_model_len = None
    args = make_plan(config, facts).engine_args
    assert None not in args.values()
    assert "max_model_len" not in args
    assert "quantization" not in args


def test_false_is_said_and_not_left_out(config: RunConfig, facts: Facts) -> None:
    config.model.enable_thinking = False
    args = make_plan(config, facts).engine_args
    assert args["enable_thinking"] is False
    assert args["enforce_eager"] is False


def test_a_text_model_gets_no_image_limit(config: RunConfig, facts: Facts) -> None:
    config.model.max_images = 2
    assert "max_images" not in make_plan(config, facts).engine_args


@pytest.mark.parametrize(
    ("key", "argument", "one"),
    [
        ("pp", "pipeline_parallel_size", 1),
        ("dp", "data_parallel_size", 1),
        ("ep", "enable_expert_parallel", False),
    ],
)
def test_a_layout_of_one_is_left_out(
    config: RunConfig, facts: Facts, key: str, argument: str, one: Any
) -> None:
    assert argument not in changed(config, facts, f"parallelism.{key}", one).engine_args
    more = True if one is False else 2
    assert changed(config, facts, f"parallelism.{key}", more).engine_args[argument] == more


def test_extra_has_the_last_word(config: RunConfig, facts: Facts) -> None:
    config.engine.extra = {"max_model_len": 99, "block_size": 64, "trust_remote_code": None}
    args = make_plan(config, facts).engine_args
    assert args["max_model_len"] == 99
    assert args["block_size"] == 64
    assert args["trust_remote_code"] is None


def test_the_users_variables_reach_the_worker(config: RunConfig, facts: Facts) -> None:
    config.engine.env = {"HCCL_DETERMINISTIC": "true"}
    assert make_plan(config, facts).environment == {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "HCCL_DETERMINISTIC": "true",
    }


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ({"tp": 1}, "TP1"),
        ({"tp": 2, "pp": 2, "ep": True}, "TP2 + PP2 + EP"),
        ({"tp": 4, "dp": 2}, "TP4 + DP2"),
        ({"tp": 1, "pp": 2, "dp": 2, "ep": True}, "TP1 + PP2 + DP2 + EP"),
    ],
)
def test_parallel_mode_reads_as_in_release_notes(
    config: RunConfig, facts: Facts, layout: dict[str, Any], name: str
) -> None:
    for key, value in layout.items():
        setattr(config.parallelism, key, value)
    assert make_plan(config, facts).parallel_mode == name


# What is asked


@pytest.mark.parametrize(
    ("setting", "default", "models", "users"),
    [
        ("num_fewshot", None, 5, 0),
        ("apply_chat_template", True, False, True),
        ("fewshot_as_multiturn", True, False, True),
        ("limit", None, 0.5, 10.0),
        ("batch_size", "auto", "32", "1"),
    ],
)
def test_the_user_beats_the_model_and_the_model_beats_the_default(
    config: RunConfig, facts: Facts, setting: str, default: Any, models: Any, users: Any
) -> None:
    config.model.ask = {}
    (plain,) = make_plan(config, facts).evaluations
    assert getattr(plain, setting) == default
    config.model.ask = {"gsm8k": AskConfig(**{setting: models})}
    (as_the_model,) = make_plan(config, facts).evaluations
    assert getattr(as_the_model, setting) == models
    setattr(config.task, setting, users)
    (as_the_user,) = make_plan(config, facts).evaluations
    assert getattr(as_the_user, setting) == users


def test_without_a_chat_template_examples_are_not_turns(config: RunConfig, facts: Facts) -> None:
    config.task.apply_chat_template = False
    (evaluation,) = make_plan(config, facts).evaluations
    assert evaluation.fewshot_as_multiturn is False


def test_each_task_is_asked_its_own_way(config: RunConfig, facts: Facts) -> None:
    config.task.names = ["gsm8k", "mmlu"]
    config.model.ask["mmlu"] = AskConfig(num_fewshot=0)
    first, second = make_plan(config, facts).evaluations
    assert (first.task, first.num_fewshot) == ("gsm8k", 5)
    assert (second.task, second.num_fewshot) == ("mmlu", 0)
    assert first.baselines == exact({"exact_match": {"strict-match": 0.765}})
    assert second.baselines == {}


# Fingerprints


def test_fingerprints_are_what_they_were(plan: Plan) -> None:
    """Golden. Another value means that results of before no longer compare with results of after:
    that is a decision, to be named in the change that makes it, never an accident."""
    assert plan.engine_fingerprint == "d2a035d195c727c9"
    assert plan.evaluation_fingerprint == "305f297b6a31a927"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.backend", "vllm-vlm"),
        ("model.trust_remote_code", True),
        ("model.enable_thinking", True),
        ("model.chat_template_args", {"thinking": True}),
        ("parallelism.tp", 4),
        ("parallelism.pp", 2),
        ("parallelism.dp", 2),
        ("parallelism.ep", True),
        ("engine.platform", "cuda"),
        ("engine.dtype", "float16"),
        ("engine.max_model_len", 2048),
        ("engine.quantization", "ascend"),
        ("engine.enforce_eager", True),
        ("engine.gpu_memory_utilization", 0.7),
        ("engine.seed", 1),
        ("engine.extra", {"block_size": 64}),
        ("engine.env", {"HCCL_DETERMINISTIC": "true"}),
    ],
)
def test_what_can_move_the_engines_numbers_changes_its_fingerprint_alone(
    config: RunConfig, facts: Facts, plan: Plan, key: str, value: Any
) -> None:
    other = changed(config, facts, key, value)
    assert other.engine_fingerprint != plan.engine_fingerprint
    assert other.evaluation_fingerprint == plan.evaluation_fingerprint


@pytest.mark.parametrize(
    "fact",
    [
        {"weights": "00" * 32},
        {"device": "Ascend 310P3"},
        {"versions": {"vllm": "0.23.1", "vllm-ascend": "0.23.0", "torch": "2.10.0"}},
        {"versions": {"vllm": "0.23.0", "torch": "2.10.0"}},
        {"engine_code": {"vllm": "ab" * 32}},
    ],
)
def test_other_weights_versions_or_chips_are_another_engine(
    config: RunConfig, facts: Facts, plan: Plan, fact: dict[str, Any]
) -> None:
    other = make_plan(config, replace(facts, **fact))
    assert other.engine_fingerprint != plan.engine_fingerprint
    assert other.evaluation_fingerprint == plan.evaluation_fingerprint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task.names", ["mmlu"]),
        ("task.num_fewshot", 0),
        ("task.apply_chat_template", False),
        ("task.fewshot_as_multiturn", False),
        ("task.system_instruction", "Be brief."),
        ("task.limit", 10.0),
        ("task.gen_kwargs", {"temperature": 0.6}),
        ("task.seed", 1),
    ],
)
def test_what_is_asked_changes_the_evaluations_fingerprint_alone(
    config: RunConfig, facts: Facts, plan: Plan, key: str, value: Any
) -> None:
    other = changed(config, facts, key, value)
    assert other.evaluation_fingerprint != plan.evaluation_fingerprint
    assert other.engine_fingerprint == plan.engine_fingerprint


def test_other_data_or_other_code_that_asks_is_another_evaluation(
    config: RunConfig, facts: Facts, plan: Plan
) -> None:
    for fact in ({"data": "aa" * 32}, {"evaluation_code": {"lm-eval": "ab" * 32}}):
        other = make_plan(config, replace(facts, **fact))
        assert other.evaluation_fingerprint != plan.evaluation_fingerprint
        assert other.engine_fingerprint == plan.engine_fingerprint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("output_dir", "elsewhere"),
        ("preflight_only", True),
        ("tracking.enabled", True),
        ("tracking.uri", "http://tracking:5000"),
        ("verdict.rtol", 0.01),
        ("verdict.require_baseline", False),
        ("model.baselines", {}),
        ("model.hardware", "Atlas A3 Series"),
        ("model.source", "a release note"),
        ("model.name", "another_name"),
        ("model.pretrained", "/moved/weights"),
        ("task.batch_size", "1"),
        ("task.data_dir", "/moved/data"),
        ("task.include_path", "/moved/tasks"),
    ],
)
def test_what_cannot_move_a_number_leaves_both_fingerprints(
    config: RunConfig, facts: Facts, plan: Plan, key: str, value: Any
) -> None:
    other = changed(config, facts, key, value)
    assert other.engine_fingerprint == plan.engine_fingerprint
    assert other.evaluation_fingerprint == plan.evaluation_fingerprint


def test_a_path_in_extra_is_known_by_what_lies_there(config: RunConfig, facts: Facts) -> None:
    def fingerprint(path: str, content: str) -> str:
        nested = {"speculative_config": {"model": path}, "max_lora_rank": 8}
        with_content = replace(facts, paths={path: content})
        return changed(config, with_content, "engine.extra", nested).engine_fingerprint

    assert fingerprint("/a", "one") == fingerprint("/b", "one")
    assert fingerprint("/a", "one") != fingerprint("/a", "other")
    config.engine.extra = {"lora_local_path": "/a"}
    plan = make_plan(config, replace(facts, paths={"/a": "one"}))
    assert plan.engine_args["lora_local_path"] == "/a"


@pytest.mark.parametrize(
    "variable", [{"VLLM_LOGGING_LEVEL": "DEBUG"}, {"TRITON_CACHE_DIR": "/x"}, {"VLLM_PORT": "1"}]
)
def test_a_variable_that_moves_nothing_leaves_the_fingerprint(
    config: RunConfig, facts: Facts, plan: Plan, variable: dict[str, str]
) -> None:
    other = changed(config, facts, "engine.env", variable)
    assert other.engine_fingerprint == plan.engine_fingerprint
    assert variable.items() <= other.environment.items()


def test_a_library_that_is_loaded_first_is_known_by_its_content(
    config: RunConfig, facts: Facts
) -> None:
    config.engine.env = {"LD_PRELOAD": "/a/one.so:libother.so"}
    one = make_plan(config, replace(facts, paths={"/a/one.so": "content"}))
    assert (
        make_plan(config, replace(facts, paths={"/a/one.so": "rebuilt"})).engine_fingerprint
        != one.engine_fingerprint
    )


def test_the_cores_that_happen_to_be_free_leave_the_fingerprint(
    config: RunConfig, facts: Facts, plan: Plan
) -> None:
    bound = replace(facts, environment={"VLLM_CPU_OMP_THREADS_BIND": "4,5|6,7"})
    assert make_plan(config, bound).engine_fingerprint == plan.engine_fingerprint


def test_the_order_of_keys_leaves_the_fingerprint(config: RunConfig, facts: Facts) -> None:
    one = changed(config, facts, "engine.extra", {"a": 1, "b": 2})
    other = changed(config, facts, "engine.extra", {"b": 2, "a": 1})
    assert one.engine_fingerprint == other.engine_fingerprint


# The same as lm-eval's own command


def command(plan: Plan, task: int = 0) -> list[str]:
    """The words that a shell would pass for one task."""
    lines = [line for line in lm_eval_command(plan).splitlines() if line.startswith("lm_eval")]
    return shlex.split(lines[task])


def option(words: list[str], name: str) -> str:
    assert words.count(name) == 1, words
    return words[words.index(name) + 1]


def test_the_command_asks_what_was_asked(config: RunConfig, facts: Facts) -> None:
    config.task.limit = 100.0
    config.task.batch_size = "32"
    config.task.system_instruction = "Don't guess; think."
    config.task.gen_kwargs = {"temperature": 0, "until": ["\n", "'"]}
    plan = make_plan(config, facts)
    words = command(plan)
    assert words[0] == "lm_eval"
    assert option(words, "--model") == "vllm"
    assert json.loads(option(words, "--model_args")) == plan.engine_args
    assert option(words, "--tasks") == "gsm8k"
    assert option(words, "--num_fewshot") == "5"
    assert option(words, "--limit") == "100"
    assert option(words, "--batch_size") == "32"
    assert option(words, "--seed") == "1234"
    assert option(words, "--system_instruction") == "Don't guess; think."
    assert json.loads(option(words, "--gen_kwargs")) == config.task.gen_kwargs
    assert "--apply_chat_template" in words
    assert "--fewshot_as_multiturn" in words
    assert "--include_path" not in words


def test_the_command_leaves_out_what_was_left_to_the_task(config: RunConfig, facts: Facts) -> None:
    config.model.ask = {}
    config.task.apply_chat_template = False
    words = command(make_plan(config, facts))
    for name in ("--apply_chat_template", "--fewshot_as_multiturn", "--num_fewshot", "--limit"):
        assert name not in words


@pytest.mark.parametrize("limit", [1.0, 250.0, 1234567.0, 0.5, 0.12345678])
def test_the_command_has_the_limit_to_the_last_digit(
    config: RunConfig, facts: Facts, limit: float
) -> None:
    config.task.limit = limit
    words = command(make_plan(config, facts))
    assert float(option(words, "--limit")) == limit


def test_a_baseline_belongs_to_the_limit_of_the_model(config: RunConfig, facts: Facts) -> None:
    whole = make_plan(config, facts)
    config.model.ask = {"gsm8k": AskConfig(limit=1000.0)}
    (own,) = make_plan(config, facts).evaluations
    assert (own.limit, own.baseline_limit) == (1000.0, 1000.0)
    config.task.limit = 20.0
    (fewer,) = make_plan(config, facts).evaluations
    assert (fewer.limit, fewer.baseline_limit) == (20.0, 1000.0)
    config.model.ask, config.task.limit = {"gsm8k": AskConfig(limit=20.0)}, 20.0
    limited = make_plan(config, facts)
    config.model.ask = {}
    plain = make_plan(config, facts)
    assert plain.evaluations[0].baseline_limit is None
    # What is asked is the same, whatever the baseline is of.
    assert plain.evaluation_fingerprint == limited.evaluation_fingerprint
    assert plain.evaluation_fingerprint != whole.evaluation_fingerprint


def test_the_command_is_greedy_where_the_task_says_nothing(config: RunConfig, facts: Facts) -> None:
    config.task.names = ["gsm8k", "mmlu"]
    plan = make_plan(config, facts)
    first, second = lm_eval_command(plan, greedy=["mmlu"]).splitlines()[-2:]
    assert "--gen_kwargs" not in first
    assert json.loads(option(shlex.split(second), "--gen_kwargs")) == {"temperature": 0.0}
    config.task.gen_kwargs = {"temperature": 0.5}
    words = shlex.split(lm_eval_command(make_plan(config, facts), ["gsm8k"]).splitlines()[-2])
    assert json.loads(option(words, "--gen_kwargs")) == {"temperature": 0.5}


def test_the_command_says_what_lm_eval_does_not_use_with_images(
    config: RunConfig, facts: Facts
) -> None:
    config.model.chat_template_args = {"reasoning_effort": "high"}
    assert "#" not in lm_eval_command(make_plan(config, facts))
    config.model.backend = "vllm-vlm"
    *_, said, line = lm_eval_command(make_plan(config, facts)).splitlines()
    assert said == "# lm-eval's vllm-vlm does not use chat_template_args"
    assert line.startswith("lm_eval --model vllm-vlm")


def test_one_command_a_task(config: RunConfig, facts: Facts) -> None:
    config.task.names = ["gsm8k", "mmlu"]
    plan = make_plan(config, facts)
    assert option(command(plan, 0), "--tasks") == "gsm8k"
    assert option(command(plan, 1), "--tasks") == "mmlu"


def test_hostile_values_survive_a_real_shell(
    config: RunConfig, facts: Facts, tmp_path: Path
) -> None:
    """The whole command is run by sh, with an `lm_eval` that writes down what it was given."""
    data = tmp_path / "it's data; $(touch gone)"
    data.mkdir()
    tool = tmp_path / "bin" / "lm_eval"
    tool.parent.mkdir()
    given = tmp_path / "given"
    tool.write_text(
        f'#!/bin/sh\nprintf "%s\\0" "$QUOTED" "$PWD" "$@" > {shlex.quote(str(given))}\n'
    )
    tool.chmod(0o755)
    config.model.pretrained = "/weights/it's $HOME `id` & co\n"
    config.task.data_dir = str(data)
    config.engine.env = {"QUOTED": "a 'b' \"c\" $HOME"}
    plan = make_plan(config, facts)
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", lm_eval_command(plan)],
        env={**os.environ, "PATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    quoted, directory, *words = given.read_text().split("\0")[:-1]
    assert quoted == config.engine.env["QUOTED"]
    assert directory == str(data)
    assert json.loads(option(words, "--model_args"))["pretrained"] == config.model.pretrained
    assert not list(tmp_path.rglob("gone"))


@pytest.mark.parametrize("setting", ["task.include_path", "model.pretrained", "model.tokenizer"])
def test_relative_paths_hold_where_the_command_goes(
    config: RunConfig,
    facts: Facts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
) -> None:
    """The command begins with `cd` to the data: another path in it must not be read from there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "mine").mkdir()
    config.task.data_dir = "data"
    words = command(changed(config, facts, setting, "./mine"))
    if setting == "task.include_path":
        named = option(words, "--include_path")
    else:
        named = json.loads(option(words, "--model_args"))[setting.removeprefix("model.")]
    assert (tmp_path / "data" / named).resolve() == tmp_path / "mine"


def test_a_home_directory_is_one_for_the_shell_too(
    config: RunConfig, facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    config.task.data_dir = "~/data"
    lines = lm_eval_command(make_plan(config, facts)).splitlines()
    (there,) = [line for line in lines if line.startswith("cd ")]
    done = subprocess.run(["sh", "-c", f"{there} && pwd"], capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "data")


# On disk


def test_a_plan_survives_the_disk(config: RunConfig, facts: Facts, tmp_path: Path) -> None:
    config.task.limit = 0.25
    config.engine.extra = {"additional_config": {"x": [1, 2.5, None, "é"]}, "block_size": 128}
    config.task.gen_kwargs = {"until": ["\n"], "temperature": 0}
    plan = make_plan(config, facts)
    write_json(tmp_path / "plan.json", plan)
    again: Plan = read_json(tmp_path / "plan.json", Plan)
    assert again == plan
    assert again.engine_fingerprint == plan.engine_fingerprint
    assert lm_eval_command(again) == lm_eval_command(plan)


# What depends on the machine


def test_a_series_with_a_record_of_its_own_is_judged_by_it(config: RunConfig, facts: Facts) -> None:
    own = SeriesConfig(
        {"gsm8k": exact({"exact_match": {"strict-match": 0.7}})}, "Atlas 300I Duo", "us"
    )
    config.model.by_series = {"310P": own}
    there = make_plan(config, replace(facts, series="310P"))
    assert there.evaluations[0].baselines == exact({"exact_match": {"strict-match": 0.7}})
    assert (there.hardware, there.baseline_source) == ("Atlas 300I Duo", "us")
    elsewhere = make_plan(config, replace(facts, series="A3"))
    assert elsewhere.evaluations[0].baselines == exact({"exact_match": {"strict-match": 0.765}})
    assert elsewhere.hardware == "Atlas A2 Series"


def test_an_inherited_variable_that_moves_numbers_is_another_engine(
    config: RunConfig, facts: Facts
) -> None:
    plain = make_plan(config, facts)
    inherited = make_plan(config, replace(facts, inherited={"HCCL_DETERMINISTIC": "true"}))
    assert inherited.engine_fingerprint != plain.engine_fingerprint
    config.engine.env = {"HCCL_DETERMINISTIC": "true"}
    assert make_plan(config, facts).engine_fingerprint == inherited.engine_fingerprint


def test_what_the_platform_answers_to_the_users_variables_counts(
    config: RunConfig, facts: Facts
) -> None:
    """It has seen engine.env, and steered past devices that are taken."""
    config.engine.env = {"ASCEND_RT_VISIBLE_DEVICES": "0,1,2,3"}
    steered = replace(facts, environment={"ASCEND_RT_VISIBLE_DEVICES": "2,3"})
    assert make_plan(config, steered).environment["ASCEND_RT_VISIBLE_DEVICES"] == "2,3"


def test_vllm_ascends_own_options_reach_the_engine(config: RunConfig, facts: Facts) -> None:
    assert "additional_config" not in make_plan(config, facts).engine_args
    config.engine.additional_config = {"enable_flashcomm1": True}
    assert make_plan(config, facts).engine_args["additional_config"] == {"enable_flashcomm1": True}
    config.engine.extra = {"additional_config": {"only_a_newer_one_knows": 1}}
    assert make_plan(config, facts).engine_args["additional_config"] == {
        "enable_flashcomm1": True,
        "only_a_newer_one_knows": 1,
    }
