"""What an impatient person types, and the one sentence that it is answered with."""

from __future__ import annotations

import logging.config
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from runner.config import command_line, loading, places
from runner.config.composition import compose
from runner.config.overrides import quoted, settled
from runner.config.usage import explain, is_usage_error
from runner.errors import UserError
from runner.hub_ids import weights_name

NEUTRAL = ("engine=cpu", "tracking=off")


@pytest.fixture(autouse=True)
def nobodys_directory() -> Iterator[None]:
    yield
    places.own_directories.clear()


def refused(*arguments: str) -> str:
    """What is said of a command line: read, composed and checked."""
    with pytest.raises(UserError) as caught:
        words = command_line.read([*NEUTRAL, *arguments])
        loading.load(compose([word for word in words if not word.startswith("--")]))
    (problem,) = caught.value.problems
    return problem


# Options


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["a=1", "--multirun", "b=2"], ["a=1", "b=2", "--multirun"]),
        (["-m", "a=1", "-cn", "own", "b=2"], ["a=1", "b=2", "--multirun", "--config-name=own"]),
        (["--cfg", "job", "a=1", "-p", "model"], ["a=1", "--cfg=job", "--package=model"]),
        (["--cfg=job", "--resolve"], ["--cfg=job", "--resolve"]),
        (["--info"], ["--info=all"]),
        (["-h"], ["--help"]),
        ([], []),
    ],
)
def test_settings_stand_on_both_sides_of_options(given: list[str], read: list[str]) -> None:
    assert command_line.read(given) == read


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--experimental-rerun", "x.pickle"], "run the command in the run's command.txt again"),
        (["--run", "--multirun"], "--run --multirun: use only one of them"),
        (["--resolve"], "--resolve: only works together with --cfg"),
        (["--cfg", "hydra", "--resolve"], "use --cfg all --resolve"),
        (["--cfg", "jobs"], "invalid choice: 'jobs'"),
        (["--multirnu"], "--multirnu: no such option. Did you mean '--multirun'?"),
        (["--tasks", "gsm8k"], "--tasks: no such option; settings are written key=value: task"),
        (["--model", "vllm"], "--model: no such option; settings are written key=value: model=…"),
        (["--multirun\r"], "--multirun: ends in a carriage return"),
        (["--config-dir", "/nowhere"], "--config-dir=/nowhere: no such directory"),
    ],
)
def test_an_option_that_cannot_be_followed(arguments: list[str], said: str) -> None:
    assert said in refused(*arguments)


# Settings


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("task.system_instruction=你好", "put the value in quotes"),
        ("task.system_instruction=a=b", "'task.system_instruction=\"a=b\"'"),
        ("task.names=[常识]", "'task.names=[\"常识\"]'"),
        ("task.names=[gsm8k", "a bracket in the value is not closed"),
        ("task.limit=5\r", "task.limit=5: ends in a carriage return"),
        ("task.limit", "task.limit: not a setting; write key=value"),
        ("=3", "=3: the key is missing; write key=value"),
        ("task.gen_kwargs=temperature=0", "write task.gen_kwargs.temperature=0"),
        ("tracking=null", "tracking=null: null is not a choice; tracking=off turns it off"),
        ("~tracking", "~tracking: a group cannot be removed; tracking=off turns it off"),
        ("model=qwen3_8b,null", "null is not a choice"),
        ("hydra/launcher=null", "hydra/launcher=null: null is not a choice"),
        ("~engine", "~engine: a group cannot be removed. Known: ascend, "),
        ("+task=gsm8k", "+task=gsm8k: the group already has a choice; remove the +: task=gsm8k"),
        ("task=[gsm8k,canary]", "list the lm-eval tasks: task.names=["),
        (
            "task=arc_easy",
            "task=arc_easy: no such choice; for an lm-eval task, use task.names=[",
        ),
        ("model=[qwen3_8b,canary_vl]", "to run one after the other: --multirun model=NAME,NAME"),
        ("engine=cpu,cuda", "engine=cpu,cuda: to sweep over these choices, add --multirun"),
        ("tracking=http://x:5000", "for an address, use tracking.uri=http://x:5000"),
        ("task.names=arc_easy", "task.names=arc_easy: must be a list; write task.names=[arc_easy]"),
        ("task.limit=10,20", "task.limit=10,20: to sweep over these values, add --multirun"),
        ("task.limit=interval(1,5)", "--multirun hydra/sweeper=optuna"),
        ("task.limit=range(1,5)", "task.limit=range(1,5): needs --multirun"),
        ("~task.limit", "write task.limit=null for its default"),
        ("tp=2", "tp: no such key. Did you mean parallelism.tp?"),
        ("seed=1", "seed: no such key. Did you mean task.seed?"),
        ("engine.tensor_parallel_size=2", "Did you mean parallelism.tp?"),
        ("+engine.block_size=16", "vLLM's engine, use engine.extra.block_size=…"),
        ("engine.block_size=16", "vLLM's engine, use engine.extra.block_size=…"),
        ("baselines.canary.acc,none=0.9", "Did you mean model.baselines.canary.acc.none?"),
        ("engine=npu", "Did you mean 'ascend'?"),
        ("output_dir=", "output_dir=: must not be empty"),
        ("task.limit=${oc.env:NO_SUCH}", "task.limit: the environment variable NO_SUCH is not set"),
        ("output_dir=${oc.env:NO_SUCH}", "output_dir: the environment variable NO_SUCH is not set"),
        ("model=any", "model.pretrained: a value is required"),
    ],
)
def test_a_setting_that_cannot_be_followed(override: str, said: str) -> None:
    found = refused(override)
    assert said in found
    assert "\n" not in found


def test_lm_evals_spelling_of_a_metric_is_taken() -> None:
    config = loading.load(compose([*NEUTRAL, "model.baselines.canary.acc,none=0.9"]))
    assert config.model.baselines["canary"]["acc"]["none"].value == 0.9


@pytest.mark.parametrize("text", ["你好", "a=b", "it's", 'say "x"', "a\\", "a,b", "[x", " ", "\\'"])
def test_quoted_text_is_read_whole(text: str) -> None:
    (override,) = OverridesParser.create().parse_overrides(settled([f"a={quoted(text)}"]))
    assert override.value() == text


# Which model


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        ("Qwen/Qwen3-8B", "Qwen3-8B"),
        ("/data/qwen/", "qwen"),
        ("/hub/models--Qwen--Qwen3-8B/snapshots/0123abc", "Qwen3-8B"),
        ("models--a--b--c/snapshots/main/", "c"),
    ],
)
def test_weights_are_called_as_their_publisher_calls_them(weights: str, name: str) -> None:
    assert weights_name(weights) == name


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["model=Qwen/Qwen3-8B"],
            "; model=qwen3_8b has settings and baselines for these weights; ",
        ),
        (["model=Org/New-1B"], "; use model=any model.pretrained=Org/New-1B"),
        (["model=/data/new"], "; use model=any model.pretrained=/data/new"),
        (["model=New-1B"], "; use model=any model.pretrained=New-1B. Known: any, "),
        (
            ["model.pretrained=Org/New-1B"],
            "the run uses the settings of canary_vl; use model=any model.pretrained=",
        ),
        (
            ["++model.pretrained='/x'"],
            "the run uses the settings of canary_vl; use model=any model.pretrained=/x",
        ),
        (
            ["model.pretrained=/data/Qwen3-8B"],
            "model=qwen3_8b model.pretrained=/data/Qwen3-8B has settings and baselines",
        ),
    ],
)
def test_weights_never_run_under_another_models_name(overrides: list[str], said: str) -> None:
    assert said in refused(*overrides)


def test_an_adapter_is_named_before_the_model_that_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    said = refused(f"model.pretrained={tmp_path}")
    model = "model=any model.pretrained=owner/base"
    assert f"set {model} engine.extra.lora_local_path={tmp_path}" in said


def test_weights_of_a_model_that_is_named_are_taken() -> None:
    settings = [*NEUTRAL, "model=canary_vl", "model.pretrained=/copy"]
    assert loading.load(compose(settings)).model.pretrained == "/copy"


# A user's own files


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for group in ("model", "task", "engine", "sweep"):
        (tmp_path / group).mkdir()
    return tmp_path


def test_a_users_file_comes_before_ours_of_the_same_name(own: Path) -> None:
    (own / "model" / "qwen3_8b.yaml").write_text("name: mine\npretrained: /mine\nbackend: vllm\n")
    (own / "task" / "gsm8k.yaml").write_text("names: [mine]\n")
    (own / "engine" / "cpu.yaml").write_text("platform: cpu\nwindow: 7\n")
    settings = [*NEUTRAL, "model=qwen3_8b", "task=gsm8k"]
    config = loading.load(compose(settings, own))
    assert (config.model.name, config.model.baselines) == ("mine", {})
    assert (config.task.names, config.engine.window) == (["mine"], 7)
    assert loading.load(compose(settings)).model.name == "qwen3_8b"  # without the directory


def test_a_users_choices_are_among_the_known(own: Path) -> None:
    (own / "model" / "new.yaml").write_text("name: new\n")
    command_line.read([f"--config-dir={own}"])
    assert {"new", "qwen3_8b"} <= set(places.choices("model"))
    with hydra.initialize_config_dir(str(places.config_directory()), version_base="1.3"):
        loading.register()
        composed = hydra.compose("config", ["model=new", "model.pretrained=/x", *NEUTRAL])
    assert composed.model.name == "new"


def test_a_mistake_in_a_users_file_names_the_file(own: Path) -> None:
    file = own / "model" / "mine.yaml"
    file.write_text("name: mine\npretrainde: /x\n")
    said = refused(f"--config-dir={own}", "model=mine")
    assert said.startswith(f"{file}: model.pretrainde: no such key. Did you mean 'pretrained'?")
    file.write_text("name: mine\n  pretrained: x\n")
    assert refused(f"--config-dir={own}", "model=mine").startswith(
        f"{file}, line 2: not valid YAML"
    )


def test_a_config_yaml_of_the_users_does_not_replace_ours_unasked(own: Path) -> None:
    (own / "config.yaml").write_text("learning_rate: 1\n")
    assert refused(f"--config-dir={own}").startswith(f"{own}/config.yaml: would replace")
    assert command_line.read([f"--config-dir={own}", "--config-name=config"])


def test_a_file_that_overrides_one_of_ours_without_the_directory_is_named(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from runner.adopt.__main__ import main
    from tests.originals import BARE, write

    file = write(own / "Bare-1B.yaml", BARE)
    assert main([str(file), "--output", str(own / "model" / "qwen3_8b.yaml")]) == 0
    said = capsys.readouterr().err
    assert f"model=qwen3_8b is also a built-in model; with --config-dir {own}" in said
    assert main([str(file), "--output", str(own / "model" / "bare.yaml")]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"root": {"level": "NOPE"}}, "Unknown level: 'NOPE'"), ({}, "Unsupported version: 3")],
)
def test_what_logging_does_not_take_is_told_with_its_key(
    settings: dict[str, Any], said: str
) -> None:
    asked = {"version": 1, "disable_existing_loggers": False} if settings else {"version": 3}
    with pytest.raises(ValueError) as caught:
        logging.config.dictConfig(asked | settings)
    assert is_usage_error(caught.value)
    assert explain(caught.value) == f"hydra.job_logging (or hydra.hydra_logging): {said}"
