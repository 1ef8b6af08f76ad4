"""A damaged engine beside a sound one: the page says which kinds of question broke, and how."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Finished, environment

pytestmark = pytest.mark.slow


def compare(
    where: Path, first: str, second: str, store: str
) -> tuple[subprocess.CompletedProcess[str], Any]:
    ended = subprocess.run(
        [sys.executable, "-m", "runner.compare", first, second, "--uri", store],
        cwd=where,
        env={**environment(), "XDG_CACHE_HOME": str(where / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = re.search(r"^report: (\S+)", ended.stdout, re.MULTILINE)
    assert found is not None, ended.stdout + ended.stderr
    return ended, where / found.group(1)


def test_the_page_says_which_kinds_of_question_broke(
    default_run: Finished, damaged_run: Finished, tmp_path: Path
) -> None:
    """With the command that the damaged run printed."""
    command = re.search(
        r"^compare: python -m runner.compare (\S+) (\S+)$", damaged_run.printed, re.M
    )
    assert command is not None, damaged_run.printed
    first, second = command.groups()
    assert second == str(damaged_run.directory)
    ended, page = compare(tmp_path, first, second, default_run.store)
    assert ended.returncode == 3, ended.stderr
    assert "FAILED: B is worse than A by 31." in ended.stdout
    found = json.loads(page.with_suffix(".json").read_text())
    drops = {row["task"]: -row["difference"] for row in found["scores"] if row["subject"]}
    assert max(drops, key=lambda kind: drops[kind]) == "canary_place"
    assert min(drops, key=lambda kind: drops[kind]) == "canary_number"
    judged = damaged_run.json("verdict.json")["metrics"]
    (accuracy,) = [each for each in judged if each["rule"] == "paired"]
    (whole,) = [row for row in found["scores"] if not row["subject"]]
    assert whole["p"] == accuracy["p"]
    (shift,) = [each for each in judged if each["rule"] == "numerics"]
    assert found["numerics"]["tokens"]["p99"] == pytest.approx(shift["value"])
    assert found["numerics"]["tokens"]["n"] == shift["n"]
    kinds = {each["kind"]: each["n"] for each in found["kinds"]}
    assert kinds["different answer"] > 200 and kinds.get("near-tie", 0) < 20
    assert [each["key"] for each in found["settings"]["configuration"]] == ["model.pretrained"]
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") >= 60
    assert {each["task"] for each in found["shown"]} == set(drops)


@pytest.mark.exhaustive
def test_runs_of_mlflow_are_compared_by_id_and_by_alias(
    default_run: Finished, damaged_run: Finished, tmp_path: Path
) -> None:
    run_id = damaged_run.json("mlflow.json")["run_id"]
    ended, page = compare(tmp_path, "baseline@canary_vl/canary", run_id, default_run.store)
    assert ended.returncode == 3, ended.stderr
    assert page.is_file() and page.parent.name.endswith("-compare")
    assert page.read_text().count("data:image/jpeg;base64,") >= 60
