"""Our model class answers as lm-eval's own does, token for token: float32, greedy, one engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.plan import Plan
from runner.rundir import read_json
from runner.supervision.worker_process import worker_environment
from tests.e2e.conftest import Finished

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compared(default_run: Finished) -> dict[str, dict[str, Any]]:
    plan: Plan = read_json(default_run.directory / "plan.json", Plan)
    ended = subprocess.run(
        [sys.executable, "-m", "tests.feeding", str(default_run.directory / "plan.json")],
        env=worker_environment(plan),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    (line,) = (each for each in ended.stdout.splitlines() if each.startswith("report: "))
    found: dict[str, dict[str, Any]] = json.loads(line.removeprefix("report: "))
    return found


@pytest.mark.parametrize("kind", ["images", "text", "loglikelihood", "rolling"])
def test_answers_are_lm_evals_own(compared: dict[str, dict[str, Any]], kind: str) -> None:
    found = compared[kind]
    assert found["requests"] >= 10
    assert found["different"] == 0
    assert found["same_tokens"]


def test_prompts_that_were_cut_are_told(compared: dict[str, dict[str, Any]]) -> None:
    cut = {kind: found["cut"] for kind, found in compared.items()}
    assert cut == {"images": 0, "text": 1, "loglikelihood": 3, "rolling": 0}


def test_a_choice_that_is_too_long_is_not_asked(compared: dict[str, dict[str, Any]]) -> None:
    assert compared["loglikelihood"]["too_long"] == ["-inf", False, "prompt_too_long"]


def test_template_arguments_reach_both_classes(compared: dict[str, dict[str, Any]]) -> None:
    assert compared["text"]["prompts"] == dict.fromkeys(("vllm", "vllm-vlm"), "1|True|high")


def test_the_window_takes_fewer_steps_than_chunks_of_its_size(
    compared: dict[str, dict[str, Any]],
) -> None:
    theirs, ours = compared["text"]["steps"]
    assert ours < theirs


@pytest.mark.parametrize("kind", ["text", "loglikelihood"])
def test_a_batch_size_makes_lm_evals_own_chunks(
    compared: dict[str, dict[str, Any]], kind: str
) -> None:
    assert compared[kind]["steps_in_chunks"] == compared[kind]["steps"][0]


def test_a_run_says_how_full_the_engine_was(default_run: Finished) -> None:
    fed = default_run.json("outcome.json")["feeding"]
    assert fed["resumed"] == 0
    assert fed["asked"] == fed_requests(default_run)
    assert 0.05 < fed["stepping"] < 1
    assert fed["queued"] is None  # the engine is in the worker's process: it stands still meanwhile
    assert f"{fed['asked']} requests (up to " in default_run.report
    assert f"{fed['asked']} requests (up to " in default_run.printed


def fed_requests(run: Finished) -> int:
    return sum(task["expected"] for task in run.json("outcome.json")["tasks"])


def test_a_run_that_completed_leaves_no_journal(default_run: Finished) -> None:
    journal = default_run.directory.parent / "journal"
    assert not [file for file in journal.rglob("*") if file.is_file()]
