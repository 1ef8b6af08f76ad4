"""engine=transformers: what reaches lm-eval's hf classes, and what is refused before they load."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import interpreters, preflight
from runner.canary import WEIGHTS
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.plan import Plan
from runner.planning import Facts, make_plan
from runner.platforms.cpu import Cpu
from runner.platforms.cuda import Cuda
from runner.present.lm_eval_command import lm_eval_command
from runner.rundir import read_json, write_json
from runner.runtimes import runtime_of

Compose = Callable[..., RunConfig]
PLATFORM = "cuda" if Cuda().present() else "cpu"


@pytest.fixture
def reference(compose: Compose) -> RunConfig:
    return compose("engine=transformers")


def problems(config: RunConfig) -> list[str]:
    return preflight.look(config).problems


def problem(config: RunConfig) -> str:
    (only,) = problems(config)
    return only


# The plan


def test_the_canarys_arguments_are_those_of_hf_multimodal(
    reference: RunConfig, facts: Facts
) -> None:
    plan = make_plan(reference, facts)
    assert (plan.runtime, plan.backend, plan.platform) == (
        "transformers",
        "hf-multimodal",
        PLATFORM,
    )
    assert plan.engine_args == {
        "pretrained": str(WEIGHTS),
        "trust_remote_code": False,
        "max_images": 2,
        "dtype": "float32",
        "max_length": 1024,
        "device": PLATFORM,
    }
    assert plan.parallel_mode == "transformers"


def test_a_text_models_arguments_are_those_of_hf(compose: Compose, facts: Facts) -> None:
    config = compose(
        "model=qwen3_8b",
        "engine=transformers",
        "engine.platform=cpu",
        "model.revision=abc",
        "model.tokenizer=some/tokenizer",
        "+engine.extra.attn_implementation=eager",
    )
    plan = make_plan(config, facts)
    assert plan.backend == "hf"
    assert plan.engine_args == {
        "pretrained": "Qwen/Qwen3-8B",
        "revision": "abc",
        "tokenizer": "some/tokenizer",
        "trust_remote_code": False,
        "enable_thinking": False,
        "dtype": "auto",
        "max_length": 4096,
        "device": "cpu",
        "attn_implementation": "eager",
    }


@pytest.mark.parametrize(("asked", "settled"), [(None, "8"), ("auto", "8"), ("3", "3")])
def test_auto_is_a_batch_size_that_hf_can_take(
    reference: RunConfig, facts: Facts, asked: str | None, settled: str
) -> None:
    reference.task.batch_size = asked
    assert make_plan(reference, facts).evaluations[0].batch_size == settled


def test_the_command_is_lm_evals_own(reference: RunConfig, facts: Facts) -> None:
    words = shlex.split(lm_eval_command(make_plan(reference, facts)).splitlines()[-1])
    assert words[:3] == ["lm_eval", "--model", "hf-multimodal"]
    assert json.loads(words[words.index("--gen_kwargs") + 1]) == {"repetition_penalty": 1.0}
    assert words[words.index("--device") + 1] == PLATFORM
    assert "device" not in json.loads(words[words.index("--model_args") + 1])
    assert words[-2:] == ["--batch_size", "8"]
    reference.task.gen_kwargs = {"repetition_penalty": 1.2, "max_gen_toks": 9}
    words = shlex.split(lm_eval_command(make_plan(reference, facts)).splitlines()[-1])
    assert json.loads(words[words.index("--gen_kwargs") + 1]) == reference.task.gen_kwargs


def test_the_runtime_is_part_of_who_an_engine_is(reference: RunConfig, facts: Facts) -> None:
    plan = make_plan(reference, facts)
    reference.engine.runtime = "vllm"
    vllm = make_plan(reference, facts)
    assert plan.engine_fingerprint != vllm.engine_fingerprint
    assert plan.evaluation_fingerprint == vllm.evaluation_fingerprint


def test_vllms_own_version_is_no_part_of_it(reference: RunConfig) -> None:

    assert not [name for name in runtime_of("transformers").packages() if "vllm" in name]


def test_an_older_plan_was_vllms(plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    write_json(file, plan)
    written = json.loads(file.read_text())
    assert written.pop("runtime") == "vllm"
    file.write_text(json.dumps(written))
    assert read_json(file, Plan) == plan


# What is refused


def test_the_canary_is_let_through_without_vllm(
    reference: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference.engine.platform = "cpu"
    monkeypatch.setattr(Cpu, "missing", lambda self, python: ["no vLLM here"])
    monkeypatch.setattr(interpreters, "installed_version", lambda name: "1.0")
    found = preflight.look(reference)
    assert found.problems == []
    own = Cpu().worker_environment(1)
    assert found.environment == {k: v for k, v in own.items() if not k.startswith("VLLM_")}
    assert "GiB as stored; the KV cache grows" in found.memory


def test_what_is_missing_is_transformers_own(
    reference: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference.engine.platform = "cpu"
    monkeypatch.setattr(
        interpreters,
        "installed_version",
        lambda name: None if name == "accelerate" else "1.0",
    )
    said = problem(reference)
    assert "not installed: accelerate" in said and "[transformers]" in said


def test_a_cpu_build_of_torch_has_no_gpu(
    reference: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference.engine.platform = "cuda"
    monkeypatch.setattr(Cuda, "present", lambda self: True)
    monkeypatch.setattr(interpreters, "installed_version", lambda name: "2.13.0+cpu")
    assert problem(reference).endswith("install a CUDA build, or use engine.platform=cpu")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("parallelism.tp=2", "parallelism.tp=2: transformers runs on one device"),
        ("parallelism.pp=2", "parallelism.pp=2: transformers runs on one device"),
        ("parallelism.dp=2", "parallelism.dp=2: transformers runs on one device"),
        ("engine.quantization=ascend", "engine.quantization=ascend: a vLLM setting"),
        ("engine.window=4", "engine.window=4: a vLLM setting; transformers runs batches"),
        ("engine.seed=7", "engine.seed=7: a vLLM setting; for transformers, task.seed"),
        ("+engine.extra.max_num_seqs=4", "engine.extra.max_num_seqs: not an argument"),
        ("+engine.extra.interleaved=false", "Did you mean 'interleave'?"),
        (
            "model.tokenizer=some/tokenizer",
            "model.tokenizer=some/tokenizer: lm-eval's hf-multimodal",
        ),
    ],
)
def test_what_means_nothing_to_transformers_is_refused(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, override: str, said: str
) -> None:
    monkeypatch.setattr(interpreters, "installed_version", lambda name: "1.0")
    assert said in problem(compose("engine=transformers", "engine.platform=cpu", override))


def test_a_text_model_knows_no_option_for_images(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreters, "installed_version", lambda name: "1.0")
    config = compose(
        "model=qwen3_8b",
        "engine=transformers",
        "engine.platform=cpu",
        f"model.pretrained={WEIGHTS}",
        "+engine.extra.interleave=false",
    )
    assert "engine.extra.interleave: not an argument of lm-eval's hf;" in problem(config)


def test_modelslim_weights_are_refused_whatever_the_quantization_says(
    reference: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(interpreters, "installed_version", lambda name: "1.0")
    for file in WEIGHTS.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "quant_model_description.json").write_text("{}")
    reference.model.pretrained = str(tmp_path)
    assert "ModelSlim weights" in problem(reference)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["engine.runtime=transfromers"], "must be one of vllm, server, endpoint, transformers"),
        (["engine.dtype=fp32"], "engine.dtype=fp32: must be one of"),
        (["+engine.additional_config.enable_flashcomm1=true"], "only vllm-ascend reads this key"),
    ],
)
def test_what_no_machine_could_do_is_refused_with_the_configuration(
    compose: Compose, overrides: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        compose("engine=transformers", *overrides)


def test_an_npu_is_refused(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "installed_version", lambda name: "1.0")
    found = preflight.look(compose("engine=transformers", "engine.platform=ascend")).problems
    assert "use engine=transformers, which picks the one available" in "".join(found)


def test_transformers_takes_a_gpu_where_there_is_one(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cuda, "present", lambda self: True)
    assert compose("engine=transformers").engine.platform == "cuda"
    monkeypatch.setattr(Cuda, "present", lambda self: False)
    assert compose("engine=transformers").engine.platform == "cpu"
