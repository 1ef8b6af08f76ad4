"""Runs that come to grief, at random moments and at named ones, and the runs after them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.platforms.cpu import SITE

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
# As a worker of the CPU engine has it: tests/faults/loop.py forks its workers.
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(SITE), str(PROJECT)]),
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "LMEVAL_HASHMM": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


def seen(module: str, where: Path, *arguments: str) -> dict[str, int]:
    ended = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{module}", str(where), *arguments],
        cwd=where,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found: dict[str, int] = json.loads(ended.stdout.rpartition("seen: ")[2])
    return found


@pytest.mark.parametrize("number", [40, pytest.param(100, marks=pytest.mark.exhaustive)])
def test_what_goes_on_after_any_harm_ends_as_if_there_had_been_none(
    number: int, tmp_path: Path
) -> None:
    found = seen("loop", tmp_path, str(number), "20251125")
    rounds = {name: count for name, count in found.items() if ": " in name}
    assert sum(rounds.values()) == number + 1
    assert found["hostile names: 0"] == 1
    # The moments are spread over a run: many were broken in the middle of their requests.
    broken = ("worker killed: 2", "parent killed: -9", "both killed: -9", "terminated: 130")
    assert sum(found.get(each, 0) for each in broken) > number / 10
    assert found["resumed"] > number


def test_a_run_that_is_stopped_at_a_named_moment_is_interrupted_and_the_next_is_whole(
    tmp_path: Path,
) -> None:
    assert seen("moments", tmp_path) == {
        "the engine starts": 130,
        "samples are written": 130,
        "the evaluation is over": 130,
        "the report is written": 130,
        "it is sent, SIGINT": 130,
        "it is sent, SIGTERM": 130,
    }
