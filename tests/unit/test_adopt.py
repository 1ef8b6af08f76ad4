"""A file of the original test means here what it means there, and says what it never meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from runner.adopt import Adopted, LeftToAnother, adopt
from runner.adopt.__main__ import main
from runner.config import loading
from runner.config.composition import compose
from runner.config.schema import AskConfig, RunConfig
from runner.errors import UserError
from tests.baselines import exact
from tests.originals import BARE, TEXT, write

NEUTRAL = ["engine=ascend", "tracking=off"]


def load(adopted: Adopted, *overrides: str) -> RunConfig:
    return loading.load(adopted.compose([*NEUTRAL, *overrides]))


def problems(file: Path) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        load(adopt(file))
    return caught.value.problems


def test_every_key_that_the_original_reads_arrives(tmp_path: Path) -> None:
    adopted = adopt(write(tmp_path / "Some-7B-Instruct.yaml", TEXT))
    config = load(adopted)
    assert adopted.dropped == ()
    model, engine = config.model, config.engine
    assert (model.name, model.pretrained) == ("some_7b_instruct", "owner/Some-7B-Instruct")
    assert (model.backend, model.hardware) == ("vllm", "Atlas A2 Series")
    assert (model.trust_remote_code, model.enable_thinking) == (True, False)
    assert (config.parallelism.tp, config.parallelism.ep) == (2, True)
    assert (engine.dtype, engine.max_model_len, engine.quantization) == ("bfloat16", 8192, "ascend")
    assert (engine.gpu_memory_utilization, engine.enforce_eager) == (0.75, True)
    assert config.task.names == ["gsm8k", "ceval-valid"]
    asked = AskConfig(5, True, False, 200.0, "32")
    assert model.ask == {"gsm8k": asked, "ceval-valid": asked}
    assert model.baselines == {
        "gsm8k": exact({"exact_match": {"strict-match": 0.62, "flexible-extract": 0.71}}),
        "ceval-valid": exact({"acc": {"none": 1.0}}),
    }


def test_what_a_file_leaves_out_is_the_originals_default(tmp_path: Path) -> None:
    config = load(adopt(write(tmp_path / "bare.yaml", BARE)))
    assert (config.model.backend, config.model.trust_remote_code) == ("vllm", False)
    assert (config.engine.max_model_len, config.engine.dtype) == (4096, "auto")
    assert (config.parallelism.tp, config.engine.gpu_memory_utilization) == (1, 0.9)
    assert config.model.ask["gsm8k"] == AskConfig(apply_chat_template=True)


def test_null_means_what_it_means_to_the_original(tmp_path: Path) -> None:
    content = {
        **BARE,
        "serve": {"max_model_len": None, "enforce_eager": None},
        "num_fewshot": None,
        "apply_chat_template": None,
    }
    config = load(adopt(write(tmp_path / "null.yaml", content)))
    assert config.engine.max_model_len is None
    assert config.engine.enforce_eager is False
    assert config.model.ask["gsm8k"] == AskConfig(apply_chat_template=False)


def test_the_command_line_has_the_last_word(tmp_path: Path) -> None:
    adopted = adopt(write(tmp_path / "some.yaml", TEXT))
    config = load(adopted, "parallelism.tp=1", "task=gsm8k", "engine.env.HCCL_BUFFSIZE='200'")
    assert (config.parallelism.tp, config.task.names) == (1, ["gsm8k"])
    assert config.engine.env["HCCL_BUFFSIZE"] == "200"


def test_dropped_keys_are_named_without_their_values(tmp_path: Path) -> None:
    content = {
        **BARE,
        "serve": {"block_size": 128, "data_parallel_size": 2},
        "envs": {"HCCL_BUFFSIZE": "200", "HF_TOKEN": "hf_secret"},
        "gen_kwargs": {"max_gen_toks": 64},
        "model_args": {"max_num_seqs": 8},
        "nickname": "x",
        "tasks": [
            {
                "name": "gsm8k",
                "split": "test",
                "metrics": [{"name": "exact_match,strict-match", "value": 0.5, "rtol": 0.1}],
            }
        ],
    }
    dropped = adopt(write(tmp_path / "more.yaml", content)).dropped
    named = {line.partition(":")[0]: line.partition("; ")[2] for line in dropped}
    assert named == {
        "serve.block_size": "use engine.extra.block_size=… instead",
        "serve.data_parallel_size": "use parallelism.dp=… instead",
        "envs.HCCL_BUFFSIZE": "use engine.env.HCCL_BUFFSIZE=… instead",
        "envs.HF_TOKEN": "use engine.env.HF_TOKEN=… instead",
        "gen_kwargs.max_gen_toks": "use task.gen_kwargs.max_gen_toks=… instead",
        "model_args.max_num_seqs": "use engine.extra.max_num_seqs=… instead",
        "nickname": "",
        "tasks[0].split": "",
        "tasks[0].metrics[0].rtol": "",
    }
    assert "hf_secret" not in "".join(dropped)


GOOD_METRIC = {"name": "acc,none", "value": 0.5}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_name": None}, "model_name=None"),
        ({"model_type": "vllm-rm"}, "model_type=vllm-rm"),
        ({"tasks": None}, "tasks=None"),
        ({"tasks": [{"metrics": [GOOD_METRIC]}]}, "tasks[0]="),
        ({"tasks": [{"name": "a", "metrics": None}]}, "tasks[0].metrics=None"),
        ({"tasks": [{"name": "a", "metrics": [{"name": "acc", "value": 1}]}]}, "tasks[0].metrics="),
        ({"tasks": [{"name": "a", "metrics": ["acc,none"]}]}, "tasks[0].metrics=acc,none"),
        (
            {"tasks": [{"name": "a", "metrics": [{"name": "acc,none", "value": "0.5"}]}]},
            "tasks[0].metrics: acc,none=0.5: must be a number",
        ),
        (
            {"tasks": [{"name": "a", "metrics": [{"name": "acc,none", "value": float("nan")}]}]},
            "model.baselines.a.acc.none=nan",
        ),
        ({"tasks": [{"name": "a", "metrics": [GOOD_METRIC] * 2}]}, "acc,none: listed twice"),
        (
            {"tasks": [{"name": "a", "metrics": [GOOD_METRIC]}] * 2},
            "tasks[1].name=a: listed twice",
        ),
        ({"serve": 3}, "serve=3"),
        ({"serve": {"gpu_memory_utilization": 2}}, "engine.gpu_memory_utilization=2.0"),
        ({"serve": {"tensor_parallel_size": "two"}}, "model.serve.tp"),
        ({"limit": -3}, "model.ask.gsm8k.limit=-3.0"),
        ({"apply_chat_template": "perhaps"}, "model.ask.gsm8k.apply_chat_template"),
        (
            {"apply_chat_template": False, "fewshot_as_multiturn": True},
            "fewshot_as_multiturn=true: needs",
        ),
        ({"hardware": "${oc.env:HOME}"}, "bad.yaml: contains ${"),
    ],
)
def test_an_impossible_value_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    found = problems(write(tmp_path / "bad.yaml", {**BARE, **change}))
    assert any(named in line for line in found), found


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "not valid YAML"), ("- a", "must be a mapping"), ("", "must be a mapping")],
)
def test_what_is_no_such_file_is_said(tmp_path: Path, text: str, said: str) -> None:
    (problem,) = problems(write(tmp_path / "bad.yaml", text))
    assert said in problem


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path / "none.yaml")
    assert problem.endswith("none.yaml: No such file or directory")


def test_a_speech_model_is_left_to_another_test(tmp_path: Path) -> None:
    content = {**BARE, "model_type": "vllm-asr", "tasks": [{"name": "x", "metrics": ["wer"]}]}
    with pytest.raises(LeftToAnother, match="speech"):
        adopt(write(tmp_path / "asr.yaml", content))


def test_the_written_file_is_a_model_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "Some-7B.yaml", TEXT + "envs: {A: b}\n")
    output = tmp_path / "own" / "model" / "mine.yaml"
    assert main([str(file), "--output", str(output)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"Some-7B.yaml: {adopt(file).dropped[0]}\n"
    composed = compose(["model=mine", *NEUTRAL, "output_dir=out"], tmp_path / "own")
    plugins = adopt(file).compose([*NEUTRAL, "output_dir=out"])
    assert OmegaConf.to_yaml(composed, resolve=True) == OmegaConf.to_yaml(plugins, resolve=True)


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.yaml", TEXT)
    output = write(tmp_path / "b.yaml", "mine")
    assert main([str(file), "--output", str(output)]) == 1
    assert "File exists" in capsys.readouterr().err
    assert output.read_text() == "mine"


def test_to_the_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.yaml", TEXT)
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == adopt(file).text


def test_a_bad_file_is_refused_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.yaml", {**BARE, "limit": -1})
    output = tmp_path / "b.yaml"
    assert main([str(file), "--output", str(output)]) == 1
    assert "model.ask.gsm8k.limit=-1.0" in capsys.readouterr().err
    assert not output.exists()
