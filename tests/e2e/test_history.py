"""Thirty nights of the canary, the last eleven with damaged weights: the history names night 20.

The nights are copies of four runs, two with good weights and two with damaged ones.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runner.canary.damaged import write_damaged
from runner.canary.faults import file_faults
from runner.history.__main__ import main
from tests.e2e.conftest import environment

GOOD, NIGHTS = 19, 30
START_MS, DAY_MS = 1_793_491_200_000, 86_400_000  # 2026-11-01


def swept(directory: Path, count: int, *overrides: str) -> list[Path]:
    """Runs of one engine that differ in what changes no answer, in order."""
    rtol = ",".join(f"0.05{number:02d}" for number in range(1, count + 1))
    subprocess.run(
        [
            *(sys.executable, "-m", "runner", "--multirun", f"verdict.rtol={rtol}"),
            *("task.limit=10", "journal.enabled=false", f"hydra.sweep.dir={directory}"),
            *(f"tracking.uri=sqlite:///{directory.parent}/mlflow.db", *overrides),
        ],
        cwd=directory.parent,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=900,
        check=False,
    )
    return [directory / str(number) for number in range(count)]


@pytest.mark.exhaustive
def test_thirty_nights_name_the_first_bad_one(tmp_path: Path) -> None:
    write_damaged(file_faults()["text-mlp-1-zeroed"], tmp_path / "damaged")
    damaged = f"model.pretrained={tmp_path / 'damaged'}"
    good = swept(tmp_path / "good", 2)
    bad = swept(tmp_path / "bad", 2, "model=canary_vl", damaged)
    for number in range(1, NIGHTS + 1):
        night = tmp_path / "nights" / f"{number:02d}"
        shutil.copytree((good if number <= GOOD else bad)[number % 2], night)
        begun = json.loads((night / "tracking.json").read_text())
        begun["key"] = f"night {number}"
        begun["started_ms"] = START_MS + (number - 1) * DAY_MS
        (night / "tracking.json").write_text(json.dumps(begun))
    output = tmp_path / "out"
    nights = ["--runs", str(tmp_path / "nights"), "--output", str(output)]
    assert main([*nights, "--metric", "canary/acc"]) == 3
    (series,) = json.loads((output / "history.json").read_text())["series"]
    assert (series["good"], series["bad"], len(series["nights"])) == (19, 20, 30)
    assert "2026-11-20 (night 20 of 30)" in series["headline"]
    assert any("Changed between nights 19 and 20: weights " in each for each in series["findings"])
    assert series["flips"]["changed"] > 0
    assert series["commands"][0].endswith(
        f"runner.compare {tmp_path}/nights/19 {tmp_path}/nights/20"
    )
