"""engine.python: a whole run on another environment's interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.channel.worker import WorkerStarted, read_events
from tests.e2e.conftest import Finished, Run
from tests.environments import pretend, same_environment

pytestmark = pytest.mark.slow

LIMIT = "task.limit=20"
MADE_UP = "99.1"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of this environment; one that the canary does not use has another version."""
    python = same_environment(tmp_path_factory.mktemp("environment") / "other")
    pretend(python, "latex2sympy2-extended", MADE_UP)
    return python


@pytest.fixture(scope="module")
def own(run: Run) -> Finished:
    return run(LIMIT)


@pytest.fixture(scope="module")
def other(run: Run, python: Path) -> Finished:
    return run(LIMIT, f"engine.python={python}")


def interpreter(finished: Finished) -> str:
    (started,) = (
        event
        for event in read_events(finished.directory / "events.jsonl")
        if isinstance(event, WorkerStarted)
    )
    return started.python


def test_the_worker_runs_on_it(own: Finished, other: Finished, python: Path) -> None:
    assert interpreter(other) == str(python)
    assert interpreter(own) != str(python)
    assert other.json("plan.json")["python"] == str(python)


def test_the_answers_are_the_same(own: Finished, other: Finished) -> None:
    timed = ("seconds",)
    first, second = (
        [{key: value for key, value in row.items() if key not in timed} for row in each.samples()]
        for each in (own, other)
    )
    assert len(first) == 120
    assert first == second
    assert own.status == other.status


def test_both_environments_are_recorded(own: Finished, other: Finished, python: Path) -> None:
    here, there = (each.json("environment.json") for each in (own, other))
    name = "latex2sympy2-extended"
    assert there["packages"].pop(name) == MADE_UP
    assert there["runner"] == {name: here["packages"].pop(name)}
    assert there["packages"] == here["packages"]
    assert here["runner"] == {}
    assert f"{name}=={MADE_UP}" in there["pip_freeze"]
    plans = [each.json("plan.json") for each in (own, other)]
    assert plans[0]["engine_fingerprint"] == plans[1]["engine_fingerprint"]


def test_the_report_names_the_interpreter(own: Finished, other: Finished, python: Path) -> None:
    assert (
        f"- **Interpreter**: {python} (engine.python) runs the engine and lm-eval" in other.report
    )
    assert "Interpreter" not in own.report
    page = (other.directory / "report.html").read_text()
    assert f"{python} (engine.python)" in page
