"""The planted faults' settings fit together, and vLLM would find the plugin (tests/planted)."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from importlib.metadata import distributions
from itertools import chain

from tests.planted.settings import FAULTS, HEALTHY, ROUNDING, SITE, SOUND, variables


def keys(*overrides: str) -> list[str]:
    return [each.partition("=")[0] for each in overrides]


def test_harmless_settings_change_no_fault() -> None:
    triggers = keys(*SOUND, *chain(*FAULTS.values()))
    harmless = keys(*HEALTHY, *ROUNDING)
    assert len(set(harmless)) == len(harmless) >= 12
    assert not set(harmless) & set(triggers)


def test_the_plugin_knows_every_fault() -> None:
    assert runpy.run_path(str(SITE / "planted.py"))["FAULTS"].keys() == FAULTS.keys()


def test_the_runner_and_vllm_find_the_plugin_on_the_path() -> None:
    (found,) = distributions(path=[str(SITE)])
    assert [each.group for each in found.entry_points] == ["vllm.general_plugins"]
    program = "from runner.packages import engine_plugins; print(engine_plugins())"
    listed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **variables()},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"'{found.metadata['Name']}'" in listed
