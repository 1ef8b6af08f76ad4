"""Runs that stop when their verdict is certain, and one that is continued to the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.canary.damaged import write_damaged
from runner.canary.faults import file_faults
from tests.e2e.conftest import Finished, Run

pytestmark = pytest.mark.slow


def stopped(run: Run, reference: Finished, *overrides: str) -> Finished:
    return run(
        "verdict=paired",
        f"verdict.reference={reference.directory}",
        "verdict.sequential=true",
        "engine.window=32",
        "tracking.enabled=false",
        *overrides,
    )


def test_a_sound_run_stops_early_and_can_be_continued(run: Run, default_run: Finished) -> None:
    journal = default_run.directory.parent / "continued"
    early = stopped(run, default_run, f"journal.dir={journal}")
    assert early.status == 0, early.printed
    (task,) = early.json("outcome.json")["tasks"]
    assert (task["evaluated"], task["whole"], task["look"]) == (250, 600, {"number": 5, "of": 12})
    assert early.json("verdict.json")["stopped"] is True
    assert "canary: look 5 of 12, 250 of 600 questions" in early.printed
    assert "PASSED (1 of 1 judged metrics passed; canary: 250 of 600 samples (stopped early))" in (
        " ".join(early.printed.split())
    )
    assert "The other 350 were not asked" in " ".join(early.printed.split())
    whole = run(
        "verdict=paired",
        f"verdict.reference={default_run.directory}",
        "tracking.enabled=false",
        f"journal.dir={journal}",
        f"journal.continues={early.directory}",
    )
    assert whole.status == 0, whole.printed
    feeding = whole.json("outcome.json")["feeding"]
    assert (feeding["asked"], feeding["resumed"]) == (350, 250)
    assert whole.json("outcome.json")["tasks"][0]["metrics"][0]["n"] == 600
    assert not list(journal.rglob("*.answers"))


def test_a_damaged_engine_stops_at_the_first_look(
    run: Run, default_run: Finished, tmp_path: Path
) -> None:
    write_damaged(file_faults()["text-layer-2-skipped"], tmp_path / "weights")
    early = stopped(run, default_run, "model=canary_vl", f"model.pretrained={tmp_path / 'weights'}")
    assert early.status == 3, early.printed
    (task,) = early.json("outcome.json")["tasks"]
    assert (task["evaluated"], task["look"]) == (50, {"number": 1, "of": 12})
    (judged,) = (each for each in early.json("verdict.json")["metrics"] if each["rule"])
    assert judged["test"] == "betting and clustered t" or judged["test"] == "betting"
    assert judged["p_adjusted"] <= 0.05
    assert "stopped at 50 of 600 questions" in judged["reason"]
