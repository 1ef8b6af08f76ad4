"""A nightly file means here what it means to the original, and says what is not applied."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.adopt import Adopted, LeftToAnother, adopt, cases
from runner.adopt.__main__ import main
from runner.baseline import Baseline
from runner.config import loading
from runner.config.composition import compose
from runner.config.schema import AskConfig, RunConfig
from runner.errors import UserError
from runner.plan import Plan
from runner.planning import Facts, make_plan
from runner.platforms import Device
from runner.platforms.ascend import Machine
from runner.preflight import ascend
from runner.runtimes import runtime_of
from tests.originals import write

FILES = Path(__file__).parents[1] / "nightly_files"
AIME, GPQA, GSM8K = FILES / "aime.yaml", FILES / "gpqa_A2.yaml", FILES / "gsm8k.yaml"
TEXTVQA, MULTI_NODE = FILES / "textvqa.yaml", FILES / "multi_node_A3.yaml"
SECRET, KEY = "sk-0123456789abcdef0123456789abcdef", "a-key-that-nobody-may-see"
URL = "http://10.0.0.11:8000/v1"
NEUTRAL = ["engine.platform=ascend", "tracking=off"]
A3 = Machine(
    devices=tuple(Device(index, "Ascend910", 64 << 30, 3 << 30, "OK") for index in range(16)),
    series="A3",
    built_for="A3",
    versions={"cann": "9.1.0", "driver": "25.5.0", "firmware": "7.8.0", "npu-smi": "25.5.0"},
    unknown={},
)


def load(adopted: Adopted, *overrides: str) -> RunConfig:
    return loading.load(adopted.compose([*NEUTRAL, *overrides]))


def planned(config: RunConfig, facts: Facts) -> Plan:
    """The plan on an A3 machine; neither platform nor runtime has anything against it."""
    plan = make_plan(config, replace(facts, series="A3"))
    assert ascend.problems(config, None, A3, plan.environment) == []
    assert runtime_of(config.engine.runtime).problems(config, None) == []
    return plan


def measured(config: RunConfig, task: str) -> Baseline:
    known: Baseline = config.model.baselines[task]["exact_match"]["none"]
    return known


def named(adopted: Adopted) -> dict[str, str]:
    """What is not applied: where it stands, and what the line says."""
    lines = (line.partition(": ") for line in adopted.dropped)
    return {where.partition("=")[0]: said for where, _, said in lines}


def test_aime(facts: Facts) -> None:
    adopted = adopt(AIME)
    config = load(adopted)
    model, engine = config.model, config.engine
    assert (adopted.engine, engine.runtime) == ("served", "server")
    assert (model.name, model.pretrained, model.hub) == (
        "aime",
        "example/DeepSeek-Sloth-70B-W8A8",
        "modelscope",
    )
    assert config.source.weights == "modelscope"
    assert (model.trust_remote_code, model.think_end_token) == (True, "</think>")
    assert (model.chat_template_args, model.enable_thinking) == ({"thinking": True}, None)
    sizes = config.parallelism
    assert (sizes.tp, sizes.dp, sizes.ep) == (2, 4, True)
    assert (engine.max_model_len, engine.quantization) == (70000, "ascend")
    assert (engine.gpu_memory_utilization, engine.window) == (0.87, 12)
    assert engine.extra == {
        "max_num_seqs": 24,
        "enable_prefix_caching": False,
        "speculative_config": {"num_speculative_tokens": 2, "method": "mtp"},
        "compilation_config": {"cudagraph_mode": "FULL_DECODE_ONLY"},
    }
    assert engine.additional_config == {"enable_shared_expert_dp": True, "enable_fused_mc2": 1}
    assert engine.env == {
        "HCCL_BUFFSIZE": "640",
        "OMP_PROC_BIND": "false",
        "HCCL_OP_EXPANSION_MODE": "AIV",
    }
    usual = {"do_sample": True, "temperature": 0.6}
    sampling = {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "top_k": 30, "min_p": 0.05}
    sampling |= {"presence_penalty": 1.2, "repetition_penalty": 1.1}
    common: dict[str, Any] = {"num_fewshot": 0, "apply_chat_template": True}
    assert model.ask == {
        "aime24_chat": AskConfig(**common, max_gen_toks=50000, gen_kwargs=usual),
        "aime25_chat": AskConfig(**common, max_gen_toks=60000, gen_kwargs=sampling),
    }
    assert measured(config, "aime24_chat") == Baseline(0.8333, n=30, tolerance=0.1)
    assert measured(config, "aime25_chat") == Baseline(0.9, n=30, tolerance=0.1)
    assert config.task.names == ["aime24_chat", "aime25_chat"]
    assert named(adopted) == {
        "benchmarks.acc_new.seed": "not applied; use task.gen_kwargs.seed=… instead",
        "--seed": "not applied; use engine.seed=… instead",
        "--additional-config.made_up_key": "not applied, because vllm-ascend's release has no such "
        "key; use engine.extra.additional_config.made_up_key=… engine.allow_untested=true instead",
        "batch_size": "differs between the sections; 12 is used for all of them; use "
        "engine.window=… for another value",
    }
    arguments = planned(config, facts).engine_args
    assert (arguments["data_parallel_size"], arguments["server"]["window"]) == (4, 12)
    assert arguments["additional_config"] == engine.additional_config
    assert arguments["speculative_config"] == engine.extra["speculative_config"]


def test_gpqa_and_no_secret_is_kept_or_shown(
    facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    adopted = adopt(GPQA)
    config = load(adopted)
    model = config.model
    assert (model.enable_thinking, model.chat_template_args) == (False, {"style": "short"})
    assert (config.parallelism.tp, config.engine.dtype) == (2, "float16")
    assert model.hardware == "Atlas A2 Series"
    assert config.engine.env == {"TASK_QUEUE_ENABLE": "1"}
    assert config.engine.extra == {
        "compilation_config": {
            "cudagraph_mode": "FULL_DECODE_ONLY",
            "cudagraph_capture_sizes": [1, 3, 9],
        }
    }
    greedy = {"do_sample": False, "temperature": 0, "top_p": 0.95}
    assert model.ask["gpqa_diamond_chat"].gen_kwargs == greedy
    assert measured(config, "gpqa_diamond_chat") == Baseline(0.615, n=198, tolerance=0.05)
    assert config.task.names == ["gpqa_diamond_chat"]
    said = named(adopted)
    assert said.keys() == {
        "special_dependencies",
        "benchmarks.acc_other.dataset_path",
        "--tool-call-parser",
        "envs.OTTER_TOKEN",
        "envs.LD_PRELOAD",
        "envs.VLLM-ASCEND_OTTER",
    }
    assert "use engine.env.LD_PRELOAD=…" in said["envs.LD_PRELOAD"]
    assert main([str(GPQA)]) == 0
    shown = "".join(capsys.readouterr())
    assert SECRET not in shown
    assert KEY not in shown
    planned(config, facts)


def test_gsm8k_with_a_known_number_of_questions(facts: Facts) -> None:
    adopted = adopt(GSM8K)
    config = load(adopted)
    assert (config.engine.enforce_eager, config.engine.extra) == (True, {"block_size": 128})
    asked = config.model.ask["gsm8k_chat"]
    assert (asked.num_fewshot, asked.limit, asked.max_gen_toks) == (4, 64, 2000)
    assert measured(config, "gsm8k_chat") == Baseline(0.9688, n=64, tolerance=0.01)
    assert adopted.dropped == ()
    (evaluation,) = planned(config, facts).evaluations
    assert (evaluation.limit, evaluation.baseline_limit) == (64, 64)


def test_text_and_images_are_cases_of_their_own(facts: Facts) -> None:
    assert cases(TEXTVQA) == ("heron", "heron/images")
    text, images = load(adopt(TEXTVQA, "heron")), load(adopt(TEXTVQA, "heron/images"))
    assert (text.model.name, images.model.name) == ("heron", "heron_images")
    assert (text.model.backend, images.model.backend) == ("vllm", "vllm-vlm")
    assert (text.task.names, images.task.names) == (["gsm8k_chat"], ["textvqa_val_chat"])
    assert (text.engine.window, images.engine.window) == (20, 40)
    assert measured(text, "gsm8k_chat") == Baseline(0.88, n=1319, tolerance=0.03)
    assert measured(images, "textvqa_val_chat") == Baseline(0.79, tolerance=0.05)
    assert images.model.max_images == 2
    assert images.engine.extra == {"mm_processor_cache_gb": 0}
    said = named(adopt(TEXTVQA, "heron/images"))
    assert "use task.limit=…" in said["benchmarks.acc_images.dataset_path"]
    assert said.keys() == {
        "benchmarks.acc_images.dataset_path",
        "--limit-mm-per-prompt.video",
        "--allowed-local-media-path",
    }
    assert planned(images, facts).engine_args["max_images"] == 2


def test_servers_on_several_nodes_are_only_evaluated(facts: Facts) -> None:
    adopted = adopt(MULTI_NODE)
    assert adopted.engine == "endpoint"
    config = loading.load(adopted.compose([f"engine.endpoint.url={URL}", "tracking=off"]))
    model = config.model
    assert (model.trust_remote_code, model.think_end_token) == (True, "</mm:think>")
    assert (model.enable_thinking, model.hardware) == (True, "Atlas A3 Series")
    assert (config.engine.runtime, config.engine.window) == ("endpoint", 200)
    assert measured(config, "gsm8k_chat") == Baseline(0.95, n=1319, tolerance=0.03)
    (layout,) = adopted.dropped
    assert "start the servers yourself and set engine=endpoint engine.endpoint.url=" in layout
    assert runtime_of("endpoint").problems(config, None) == []
    assert make_plan(config, facts).engine_args["server"]["url"] == URL


@pytest.mark.parametrize(
    ("file", "case"),
    [
        (AIME, None),
        (GPQA, None),
        (GSM8K, None),
        (TEXTVQA, "heron"),
        (TEXTVQA, "heron/images"),
        (MULTI_NODE, None),
    ],
)
def test_the_written_file_is_run_by_the_command_at_its_top(
    tmp_path: Path, file: Path, case: str | None
) -> None:
    chosen = [] if case is None else ["--case", case]
    assert main([str(file), *chosen, "--output", str(tmp_path / "model" / "mine.yaml")]) == 0
    text = (tmp_path / "model" / "mine.yaml").read_text()
    (command,) = (line for line in text.splitlines() if line.startswith("#   python -m runner "))
    words = command.partition("--config-dir DIR ")[2].replace("NAME", "mine").split()
    composed = loading.load(compose([*words, "tracking=off"], tmp_path))
    direct = loading.load(adopt(file, case).compose([*words[:-1], "tracking=off"]))
    composed.model.origins = direct.model.origins = {}
    composed.output_dir = direct.output_dir = ""
    assert asdict(composed) == asdict(direct)


def test_settings_of_the_user_win_key_by_key() -> None:
    config = load(
        adopt(AIME),
        "engine.extra.max_num_seqs=4",
        "engine.extra.block_size=64",
        "engine.extra.compilation_config.cudagraph_capture_sizes=[1]",
        "engine.extra.speculative_config=null",
        "engine.env.HCCL_BUFFSIZE='7'",
        "engine.additional_config.enable_mlapo=true",
        "parallelism.dp=1",
    )
    assert config.parallelism.dp == 1
    assert config.engine.extra == {
        "max_num_seqs": 4,
        "block_size": 64,
        "enable_prefix_caching": False,
        "compilation_config": {
            "cudagraph_mode": "FULL_DECODE_ONLY",
            "cudagraph_capture_sizes": [1],
        },
    }
    assert config.engine.env["HCCL_BUFFSIZE"] == "7"
    assert config.engine.env["HCCL_OP_EXPANSION_MODE"] == "AIV"
    assert config.engine.additional_config["enable_mlapo"] is True
    assert config.engine.additional_config["enable_shared_expert_dp"] is True


def test_options_of_vllm_stay_away_from_other_engines() -> None:
    adopted = adopt(AIME)
    endpoint = loading.load(adopted.compose(["engine=endpoint", f"engine.endpoint.url={URL}"]))
    hugging = loading.load(adopted.compose(["engine=transformers"]))
    for config in (endpoint, hugging):
        assert (config.engine.extra, config.engine.env) == ({}, {})
    cuda = loading.load(adopted.compose(["engine.platform=cuda"]))
    assert cuda.engine.additional_config == {}  # only vllm-ascend reads it
    assert cuda.engine.extra["max_num_seqs"] == 24


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("extra", {"dtype": "auto"}, "model.serve.extra.dtype: use engine.dtype"),
        ("extra", {"hf_token": SECRET}, "model.serve.extra.hf_token: looks like a secret"),
        ("env", {"HF_TOKEN": SECRET}, "model.serve.env.HF_TOKEN: looks like a secret"),
        ("additional_config", {"mlapo": 1}, "model.serve.additional_config.mlapo"),
        ("dp", 0, "parallelism.dp=0: must be"),
        ("window", 0, "engine.window=0: must be"),
    ],
)
def test_a_model_files_serving_settings_are_checked(
    tmp_path: Path, key: str, value: Any, said: str
) -> None:
    content = {"pretrained": "example/x", "name": "x", "serve": {key: value}}
    write(tmp_path / "model" / "mine.yaml", content)
    with pytest.raises(UserError) as caught:
        loading.load(compose(["model=mine", "task=gsm8k", *NEUTRAL], tmp_path))
    assert any(line.startswith(said) for line in caught.value.problems), caught.value.problems
    assert SECRET not in str(caught.value)


def changed(tmp_path: Path, **case: Any) -> Path:
    """GSM8K's file with other content in its case."""
    content = yaml.safe_load(GSM8K.read_text())
    (section,) = content["test_cases"]
    for key, value in case.items():
        if key in section["benchmarks"]["acc"] or key == "threshold":
            section["benchmarks"]["acc"][key] = value
        else:
            section[key] = value
    return write(tmp_path / "changed.yaml", content)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"model": None}, "wren: model=None: must be a directory or a hub id"),
        ({"baseline": "high"}, "benchmarks.acc.baseline=high: must be a number of points"),
        ({"threshold": None}, "benchmarks.acc.threshold=None: must be a number of points"),
        ({"baseline": float("nan")}, "exact_match.none.value=nan: must be a finite number"),
        ({"threshold": 0}, "exact_match.none.tolerance=0.0: must be a number above 0"),
        (
            {"dataset_path": "vllm-ascend/OtterQA"},
            "wren: there is no task for any of its data sets",
        ),
        (
            {"server_cmd": ["--speculative-config", "{method"]},
            "--speculative-config: not valid JSON",
        ),
        ({"server_cmd": "vllm serve 'x"}, "server_cmd: not a command line"),
        ({"server_cmd": ["-zz", "1"]}, "server_cmd: -zz: unknown"),
        ({"server_cmd": ["--tensor-parallel-size", "two"]}, "model.serve.tp"),
        ({"server_cmd": ["--hf-token", SECRET]}, "model.serve.extra.hf_token: looks like a secret"),
        ({"server_cmd": ["--x", "${oc.env:HOME}"]}, "contains ${"),
        ({"envs": ["A"]}, "envs=list: must be a mapping"),
    ],
)
def test_an_impossible_value_is_named(
    tmp_path: Path, case: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(changed(tmp_path, **case))]) == 1
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""
    assert SECRET not in shown.err


def test_a_task_that_two_sections_ask_is_named(tmp_path: Path) -> None:
    content = yaml.safe_load(GSM8K.read_text())
    benchmarks = content["test_cases"][0]["benchmarks"]
    benchmarks["again"] = benchmarks["acc"]
    with pytest.raises(UserError, match=r"benchmarks.again: gsm8k_chat is in another section too"):
        adopt(write(tmp_path / "twice.yaml", content))


def test_a_file_without_accuracy_is_left_to_another_test(tmp_path: Path) -> None:
    file = changed(tmp_path, benchmarks={"perf": {"case_type": "performance"}})
    with pytest.raises(LeftToAnother, match="measures no accuracy"):
        adopt(file)
    with pytest.raises(LeftToAnother):
        adopt(changed(tmp_path, benchmarks=None))
    assert cases(file) == (None,)


@pytest.mark.parametrize(
    ("file", "case", "said"),
    [
        (TEXTVQA, None, "textvqa.yaml: has several cases; use --case with one of heron, heron/im"),
        (TEXTVQA, "stork", "--case=stork: not in textvqa.yaml; use --case with one of heron, "),
        (
            AIME,
            "Sloth-70B-fast",
            "--case=Sloth-70B-fast: not in aime.yaml; use --case with one of ",
        ),
    ],
)
def test_a_case_must_be_one_of_the_file(
    file: Path, case: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(file), *([] if case is None else ["--case", case])]) == 1
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_an_lm_eval_file_has_no_cases(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", {"model_name": "x/y"})
    assert cases(file) == (None,)
    with pytest.raises(UserError, match=r"--case=b: a.yaml is not a nightly file"):
        adopt(file, "b")


@pytest.mark.parametrize(
    ("case", "engine"),
    [
        ({"kv_pool": {"type": "mooncake"}}, "endpoint"),
        ({"service_mode": "epd", "epd_server_cmds": [["--enforce-eager"]]}, "endpoint"),
        ({}, "served"),
    ],
)
def test_more_processes_than_one_server_are_not_started(
    tmp_path: Path, case: dict[str, Any], engine: str
) -> None:
    assert adopt(changed(tmp_path, **case)).engine == engine
