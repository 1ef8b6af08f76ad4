"""What lm-eval and vLLM alone can know is wrong, said before an engine starts."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["task.names=[canari]"],
            ["task.names=canari: lm-eval knows no such task. Did you mean 'canary'?"],
        ),
        (
            ["model.baselines.canary.f1.none=0.5", "model.backend=vllm"],
            [
                "model.baselines.canary.f1.none: the task has no such metric; it has acc.none",
                "model.backend=vllm: canary shows images; choose model.backend=vllm-vlm",
            ],
        ),
        (
            ["engine.extra.blok_size=16"],
            ["engine.extra.blok_size: this vLLM knows no such engine argument. Did you mean"],
        ),
        (
            ["engine.extra.kv_cache_dtype=fp9"],
            ["vLLM refuses this configuration: cache_dtype=fp9: Input should be 'auto'"],
        ),
        (
            ["task=gsm8k", "task.data_dir=null"],
            ["data set openai/gsm8k (main) is neither in the cache nor to be had from the hub"],
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
