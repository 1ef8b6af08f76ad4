"""The original's call over files of its kind, with a real engine: two files, one engine."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from runner.config.places import PACKAGE
from tests.e2e.conftest import environment
from tests.originals import write

pytestmark = pytest.mark.slow

CANARY: dict[str, Any] = {
    "model_name": str(PACKAGE / "canary" / "weights"),
    "model_type": "vllm-vlm",
    "hardware": "Atlas A2 Series",
    "serve": {
        "tensor_parallel_size": 1,
        "dtype": "float32",
        "max_model_len": 1024,
        "gpu_memory_utilization": 0.5,
        "max_images": 2,
        "max_num_seqs": 8,
    },
    "limit": 4,
    "apply_chat_template": True,
    "fewshot_as_multiturn": True,
    "batch_size": "auto",
}


def expecting(accuracy: float) -> dict[str, Any]:
    metrics = [{"name": "acc,none", "value": accuracy}]
    return {**CANARY, "tasks": [{"name": "canary", "metrics": metrics}]}


@pytest.fixture(scope="module")
def ended(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    where = tmp_path_factory.mktemp("original")
    write(where / "configs" / "low.yaml", expecting(0.2))
    write(where / "configs" / "right.yaml", expecting(0.9))
    write(where / "configs" / "all.txt", "low.yaml\nright.yaml\n")
    words = "-p runner.pytest_plugin --junitxml=junit.xml --config-list-file configs/all.txt"
    # The canary's questions are files of the package: its task says where.
    words_of_ours = ["-o", "accuracy_overrides=task=canary"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words.split(), *words_of_ours, "--report-dir", "reports"],
        cwd=where,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )
    return where, done


def test_each_file_has_the_originals_verdict(
    ended: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, done = ended
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "FAILED: canary acc,none: more than 5 % above 0.2" in done.stdout
    assert "right.yaml: warning: serve.max_num_seqs: not applied" in done.stdout


def test_two_reports_two_runs_one_engine(
    ended: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    where, _ = ended
    low, right = sorted(where.glob("outputs/*/*/*"))
    assert [each.name for each in (low, right)] == ["0-low", "1-right"]
    events = {each: (each / "events.jsonl").read_text() for each in (low, right)}
    assert '"worker_started"' in events[low] and '"worker_started"' not in events[right]
    assert json.loads((right / "verdict.json").read_text())["status"] == "PASSED"
    reports = {each.name: each.read_text() for each in (where / "reports").iterdir()}
    assert set(reports) == {"weights.md", "weights-TP1.md"}
    assert "| canary | acc,none | ❌" in reports["weights.md"]
    assert "| canary | acc,none | ✅" in reports["weights-TP1.md"]
    assert (where / "mlflow.db").is_file()


def test_junit_carries_value_baseline_and_verdict(
    ended: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    where, _ = ended
    _, right = ElementTree.parse(where / "junit.xml").iter("testcase")
    found = {each.get("name"): each.get("value") for each in right.iter("property")}
    value = json.loads(next(where.glob("outputs/*/*/1-right/verdict.json")).read_text())
    assert found["canary/acc,none/value"] == str(value["metrics"][0]["value"])
    assert found["canary/acc,none/baseline"] == "0.9"
    assert found["canary/acc,none/verdict"] == found["verdict"] == "PASSED"
    assert {"report", "run_directory", "mlflow_run"} <= found.keys()
