"""What lm-eval and vLLM alone can know is wrong, said before an engine starts."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task.names=[canari]"], "task.names=canari: lm-eval knows no such task. Did you mean"),
        (["model.baselines.canary.f1.none=0.5"], "model.baselines.canary.f1.none: the task has no"),
        (["engine.extra.blok_size=16"], "engine.extra.blok_size: this vLLM knows no such engine"),
        (["engine.extra.kv_cache_dtype=fp9"], "kv_cache_dtype: Input should be 'auto'"),
        (["model.backend=vllm"], "canary shows images; choose model.backend=vllm-vlm"),
        (["task=gsm8k", "task.data_dir=null"], "data set openai/gsm8k (main) is neither in the"),
    ],
)
def test_is_one_message_with_status_1(run: Run, overrides: list[str], said: str) -> None:
    finished = run(*overrides)
    assert finished.status == 1, finished.printed
    assert said in finished.printed
    assert "Traceback" not in finished.printed
    assert "starting engine" not in finished.printed
    assert finished.json("verdict.json")["status"] == "REFUSED"
