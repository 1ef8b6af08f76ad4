"""The logits processor that makes vLLM generate given tokens, with vLLM's own types."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.platforms import cpu

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_rows_follow_their_scripts_wherever_they_move() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/contract/forcing.py",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{cpu.SITE}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout
