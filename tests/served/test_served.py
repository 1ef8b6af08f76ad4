"""`vllm serve` answers as the in-process engine does, token for token in float32."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.platforms.cpu import Cpu
from tests.e2e.conftest import environment

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
ENGINE = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    variables = {**environment(), **ENGINE}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.served.parity", "1"],
        env={**variables, **Cpu().worker_environment(1, variables, eager=True)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    (line,) = (each for each in ended.stdout.splitlines() if each.startswith("report: "))
    found: dict[str, Any] = json.loads(line.removeprefix("report: "))
    return found


@pytest.mark.parametrize("kind", ["canary", "images", "text", "loglikelihood"])
def test_answers_are_the_in_process_engines(compared: dict[str, Any], kind: str) -> None:
    found = compared[kind]
    assert found["answers"] == found["requests"] >= 20
    assert found["different"] == 0
    assert max(found[what] for what in ("logprobs", "margins", "scored")) < 1e-4


def test_rolling_likelihoods_are_the_in_process_engines(compared: dict[str, Any]) -> None:
    assert compared["rolling"]["requests"] == 10
    assert compared["rolling"]["results"] < 1e-3  # sums over up to four thousand tokens


def test_nothing_was_sent_twice_or_rendered_differently(compared: dict[str, Any]) -> None:
    exchanged = compared["exchanged"]
    assert exchanged["asked"] == exchanged["answered"] > 100
    assert exchanged["retried"] == exchanged["missing"] == {}
    assert [exchanged[what] for what in ("different", "unverified", "shortened")] == [0, 0, 0]
    ((model, fingerprint),) = exchanged["served"]
    assert model == "canary"
    assert fingerprint.startswith(f"vllm-{compared['facts']['version']}")


def test_the_server_counts_what_it_was_asked(compared: dict[str, Any]) -> None:
    work = compared["server"]
    exchanged = compared["exchanged"]
    assert exchanged["first_tokens"] >= 10
    assert sum(work["finished"].values()) == exchanged["asked"] + exchanged["first_tokens"]
    assert work["generation_tokens"] > 100
    assert work["first_token_s"] > 0
    assert not work["restarted"]


def test_nothing_of_the_server_is_left(compared: dict[str, Any]) -> None:
    assert compared["left"] == []
    assert not compared["socket_left"]
