"""What lm-eval and vLLM alone can know is wrong, said before an engine starts."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["task.names=[canari]"],
            ["task.names=canari: lm-eval has no such task. Did you mean 'canary'?"],
        ),
        (
            ["model.baselines.canary.f1.none=0.5", "model.backend=vllm"],
            [
                "model.baselines.canary.f1.none: the task has no such metric; it has acc.none",
                "model.backend=vllm: canary has images; use model.backend=vllm-vlm",
            ],
        ),
        (
            ["engine.extra.blok_size=16"],
            ["engine.extra.blok_size: this vLLM has no such engine argument. Did you mean"],
        ),
        (
            ["engine.extra.kv_cache_dtype=fp9"],
            ["vLLM rejects this configuration: cache_dtype=fp9: Input should be 'auto'"],
        ),
        (
            ["task=gsm8k", "task.data_dir=null"],
            [
                "data set openai/gsm8k (main) is not in the cache and could not be fetched from "
                "the hub"
            ],
        ),
    ],
)
def test_is_named_in_one_message_with_status_1(
    run: Run, overrides: list[str], said: list[str]
) -> None:
    finished = run(*overrides)
    assert finished.status == 1, finished.printed
    for problem in said:
        assert problem in finished.printed
    assert "Traceback" not in finished.printed
    assert "starting engine" not in finished.printed
    assert finished.json("verdict.json")["status"] == "REFUSED"


def test_preflight_goes_up_to_the_engine_s_start_and_leaves_nothing(run: Run) -> None:
    finished = run(
        "preflight_only=true",
        "task.names=[canary_count]",
        "task.limit=7",
        "engine.env.VLLM_CPU_KVCACHE_SPACE='2'",
    )
    assert finished.status == 0, finished.printed
    assert "requests built: 7 for canary_count." in finished.printed
    assert "No engine was started." in finished.printed
    assert "starting engine" not in finished.printed
    assert "export VLLM_CPU_KVCACHE_SPACE=2\n" in finished.printed
    (line,) = [each for each in finished.printed.splitlines() if each.startswith("lm_eval")]
    assert line.endswith("--batch_size auto")  # not wrapped
    assert not finished.directory.exists()


def test_the_plan_is_in_the_language_of_the_run(run: Run) -> None:
    finished = run("preflight_only=true", "lang=zh", "task.names=[canary_count]", "task.limit=7")
    assert finished.status == 0, finished.printed
    assert "没有启动引擎" in finished.printed
    assert "No engine was started." not in finished.printed


def test_preflight_finds_what_a_run_would(run: Run) -> None:
    finished = run("preflight_only=true", "engine.extra.blok_size=16", "task.limit=1")
    assert finished.status == 1, finished.printed
    assert "engine.extra.blok_size: this vLLM has no such engine argument" in finished.printed


@pytest.mark.parametrize("engine", ["cpu", "transformers"])
def test_weights_whose_own_code_nobody_trusts_are_told_with_the_key(
    run: Run, tmp_path: Path, engine: str
) -> None:
    weights = tmp_path / "own"
    shutil.copytree(files("runner") / "canary" / "weights", weights)
    described = json.loads((weights / "config.json").read_text())
    own = {"AutoConfig": "configuration_own.Config", "AutoModelForCausalLM": "modeling_own.Model"}
    described |= {"model_type": "own", "architectures": ["Own"], "auto_map": own}
    (weights / "config.json").write_text(json.dumps(described))
    finished = run(
        "preflight_only=true",
        f"engine={engine}",
        "model=any",
        f"model.pretrained={weights}",
        "task=canary",
    )
    assert finished.status == 1, finished.printed
    assert f"model.trust_remote_code=false: {weights} needs code that" in finished.printed
    assert "Traceback" not in finished.printed
