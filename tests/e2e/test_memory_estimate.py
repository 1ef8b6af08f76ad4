"""The memory estimate stays within its stated error of what real engines report."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.conftest import PROJECT
from tests.shared_memory import orphans, segments

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

# docs/memory.md; of weights a rank and of KV cache bytes a token.
STATED_ERROR = 0.005


@pytest.fixture(scope="module")
def measured() -> list[dict[str, Any]]:
    """Latent attention with experts, and a vision-language model shared by two ranks."""
    shared_memory = segments()
    command = [sys.executable, "-m", "benchmarks.memory_estimate", "--json"]
    ended = subprocess.run(
        [*command, "deepseek_v2", "qwen2_5_vl-tp2"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-6000:]
    assert orphans(shared_memory) == set()
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("what", ["weights", "kv_per_token"])
def test_estimate_is_within_its_stated_error(measured: list[dict[str, Any]], what: str) -> None:
    assert len(measured) == 2
    for each in measured:
        assert each[what]["estimated"] == pytest.approx(each[what]["reported"], rel=STATED_ERROR), (
            each
        )


def test_estimate_never_exceeds_what_the_engine_needs(measured: list[dict[str, Any]]) -> None:
    """It may refuse a run: it must be a lower bound."""
    for each in measured:
        for what in ("weights", "kv_per_token", "kv_sequence"):
            assert each[what]["estimated"] <= each[what]["reported"], each
