"""Faults that depend on settings, planted in real engines (tests/planted)."""

from __future__ import annotations

import re

import pytest

from tests.e2e.conftest import Finished, Run
from tests.planted.settings import FAULTS, HEALTHY, SOUND, variables

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

ASKED = (*SOUND, "tracking=off", "journal=off", "task.limit=17")


@pytest.fixture(scope="module")
def sound(run: Run) -> Finished:
    """All faults are planted, and the settings of none are set."""
    return run(*ASKED, variables=variables(*FAULTS))


def replayed(run: Run, sound: Finished, *faults: str) -> Finished:
    """A replay with two ranks, which are spawned processes, and all harmless settings."""
    replay = ("verdict=replay", f"verdict.reference={sound.directory}")
    finished = run(*ASKED, *replay, *HEALTHY, *FAULTS["tp2_scale"], variables=variables(*faults))
    assert finished.status == 4, finished.printed  # no noise runs
    return finished


def planted(finished: Finished) -> list[str]:
    return re.findall(r"planted (\w+) in ", (finished.directory / "engine.log").read_text())


def difference(finished: Finished) -> float:
    """RMS difference from the sound run, in nats."""
    (metric,) = finished.json("verdict.json")["metrics"]
    return float(metric["value"])


def test_a_fault_shows_under_its_setting_only(run: Run, sound: Finished) -> None:
    assert planted(sound) == []
    assert "planted" in sound.json("environment.json")["code"]
    faulty = replayed(run, sound, *FAULTS)
    assert planted(faulty) == ["tp2_scale"] * 2
    assert difference(faulty) > 0.01


def test_the_settings_themselves_are_harmless(run: Run, sound: Finished) -> None:
    finished = replayed(run, sound)
    assert planted(finished) == []
    assert difference(finished) < 1e-5
