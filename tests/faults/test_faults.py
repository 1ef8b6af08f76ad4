"""A hundred runs that come to grief at random moments, and the runs that go on after them."""

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


def test_what_goes_on_after_any_harm_ends_as_if_there_had_been_none(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.loop", str(tmp_path), "100", "20251125"],
        cwd=tmp_path,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    seen = json.loads(ended.stdout.rpartition("seen: ")[2])
    rounds = {name: count for name, count in seen.items() if ": " in name}
    assert sum(rounds.values()) == 100 + 1
    assert seen["hostile names: 0"] == 1
    # The moments are spread over a run: many were broken in the middle of their requests.
    broken = ("worker killed: 2", "parent killed: -9", "both killed: -9", "terminated: 130")
    assert sum(seen.get(each, 0) for each in broken) > 10
    assert seen["resumed"] > 10 * 10
