"""A damaged engine against a sound one, and references refused before any engine starts."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Finished, Run, promote

pytestmark = pytest.mark.slow


def test_a_silenced_attention_layer_fails_against_the_sound_run(
    default_run: Finished, damaged_run: Finished
) -> None:
    """By its alias, and by its log-probabilities too; it may not become a reference itself."""
    assert damaged_run.status == 3, damaged_run.printed
    verdict = damaged_run.json("verdict.json")
    judged = {metric["metric"]: metric for metric in verdict["metrics"] if metric["rule"]}
    assert {name: each["status"] for name, each in judged.items()} == {
        "acc": "FAILED",
        "logprob_shift": "FAILED",
    }
    assert judged["acc"]["test"] == "exact McNemar"
    assert judged["acc"]["p"] < 1e-20
    assert judged["acc"]["drop"] == pytest.approx(0.31, abs=0.03)
    assert judged["acc"]["clusters"] == 6
    assert verdict["reference"]["run_id"] == default_run.json("mlflow.json")["run_id"]
    assert "Reference: baseline@canary_vl/canary" in damaged_run.report
    refused = promote(damaged_run, "--alias", "bad")
    assert refused.returncode == 1
    assert "FAILED" in refused.stderr and "--force" in refused.stderr


def test_a_reference_that_lost_samples_is_refused_in_seconds(
    run: Run, default_run: Finished, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    torn = tmp_path / "torn"
    shutil.copytree(default_run.directory, torn)
    table = pq.read_table(torn / "samples.parquet")
    pq.write_table(table.slice(0, 480), torn / "samples.parquet")
    started = time.monotonic()
    refused = run("verdict=paired", f"verdict.reference={torn}")
    assert refused.status == 1
    assert "has 480 samples, but the run counted 600" in refused.printed
    assert time.monotonic() - started < 60
    other = run(
        "verdict=paired",
        f"verdict.reference={default_run.directory}",
        "task.system_instruction=Be brief.",
    )
    assert other.status == 1
    assert "system_instruction=None in the reference run, but Be brief. in" in other.printed
    assert not (other.directory / "engine.log").exists()
