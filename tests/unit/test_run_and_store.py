"""Whatever MLflow's store does, a run ends as it would have ended without it."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from runner.config.composed import Composed
from runner.config.schema import RunConfig
from runner.environment import Environment
from runner.errors import UserError
from runner.outcome import Outcome, State
from runner.plan import Plan
from runner.run import Checked, perform
from runner.rundir import RunDirectory, read_json, write_json
from runner.supervision.supervisor import Supervisor
from runner.tracking.courier import Courier
from runner.verdict import Verdict
from tests.mlflow_server import Server, serving

PATIENCE_S = 60.0


class Engine:
    """A supervisor whose engine has answered."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def evaluate(self, plan: Plan, run: RunDirectory, *more: object) -> Outcome:
        write_json(run.outcome, self.outcome)
        return self.outcome

    def recorded(self, stopped: bool) -> None:
        pass


@pytest.fixture
def checked(config: RunConfig, plan: Plan, environment: Environment) -> Checked:
    config.tracking.enabled, config.tracking.timeout_s = True, PATIENCE_S
    return Checked(
        config,
        Composed("a: 1\n", "cd /\npython -m runner a=1\n", {"overrides.yaml": "- a=1\n"}),
        plan,
        environment,
    )


def performed(
    checked: Checked, directory: Path, engine: Any, courier: Courier
) -> tuple[Verdict, str]:
    """The verdict, and what was printed."""
    text = io.StringIO()
    out = Console(file=text, width=120, soft_wrap=True)
    return perform(checked, directory, cast(Supervisor, engine), courier, out), text.getvalue()


def files(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()} - {"mlflow.json", "tracking.json"}


def test_a_run_is_the_same_with_any_server(
    tmp_path: Path,
    checked: Checked,
    outcome: Outcome,
    courier: Courier,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checked.config.tracking.enabled = False
    alone, _ = performed(checked, tmp_path / "alone", Engine(outcome), courier)
    checked.config.tracking.enabled = True
    with serving() as server:
        checked.config.tracking.uri = server.uri
        verdict, said = performed(checked, tmp_path / "well", Engine(outcome), courier)
        assert verdict == alone
        assert f"MLflow: {server.uri}/#/experiments/" in said
        assert capsys.readouterr().err == ""
        for fault in (500, 507, 429, 401, "html", "cut", "lost"):
            for after in (0, 5):
                server.misbehave(fault, after)
                place = tmp_path / f"{fault}-{after}"
                verdict, said = performed(checked, place, Engine(outcome), courier)
                assert verdict == alone
                assert files(place) == files(tmp_path / "alone")
                assert "MLflow: " not in said
                (warning,) = capsys.readouterr().err.splitlines()
                assert warning.startswith(f"warning: not uploaded to MLflow ({server.uri}): ")
                assert warning.endswith(f"; upload it later with: python -m runner.sync {place}")
                server.behave()


def test_the_last_words_name_what_is_there(
    tmp_path: Path,
    checked: Checked,
    outcome: Outcome,
    courier: Courier,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class InTheWay(Engine):
        def evaluate(self, plan: Plan, run: RunDirectory, *more: object) -> Outcome:
            run.report_html.mkdir()
            return super().evaluate(plan, run)

    checked.config.tracking.enabled = False
    _, said = performed(checked, tmp_path / "well", Engine(outcome), courier)
    assert f"report: {tmp_path / 'well' / 'report.md'} (also: report.html)\n" in said
    verdict, said = performed(checked, tmp_path / "run", InTheWay(outcome), courier)
    assert f"report: {tmp_path / 'run' / 'report.md'}\n" in said
    assert "report.html" not in said
    assert verdict.exit_status == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert "report.html was not written (Is a directory); " in warning


@pytest.mark.slow
def test_a_server_that_never_answers_costs_the_time_that_it_may(
    tmp_path: Path, checked: Checked, outcome: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server, Courier() as courier:
        checked.config.tracking.uri = server.uri
        courier.open(server.uri, "gsm8k", PATIENCE_S)  # as long as an engine takes to start
        checked.config.tracking.timeout_s = 2.0
        server.misbehave("dribble", after=3)
        began = time.monotonic()
        verdict, _ = performed(checked, tmp_path / "run", Engine(outcome), courier)
        assert time.monotonic() - began < 6
    assert verdict.exit_status == 0
    assert "no answer within 2.0 s" in capsys.readouterr().err


def test_a_run_says_which_command_started_it(
    tmp_path: Path, checked: Checked, outcome: Outcome, courier: Courier, server: Server
) -> None:
    checked.config.tracking.uri = server.uri
    performed(checked, tmp_path / "run", Engine(outcome), courier)
    files = RunDirectory(tmp_path / "run")
    assert files.config.read_text() == "a: 1\n"
    assert files.command.read_text() == "cd /\npython -m runner a=1\n"
    assert (files.hydra / "overrides.yaml").read_text() == "- a=1\n"
    assert (
        "**Reproduce**:\n\n```bash\ncd /\npython -m runner a=1\n```\n" in files.report.read_text()
    )
    assert "<pre>cd /\npython -m runner a=1</pre>" in files.report_html.read_text()
    (run_id,) = server.runs
    assert server.tags(run_id)["command"] == files.command.read_text()


def test_what_was_refused_is_no_run(
    tmp_path: Path, checked: Checked, outcome: Outcome, courier: Courier, server: Server
) -> None:
    checked.config.tracking.uri = server.uri
    refused = Outcome(State.REFUSED, "engine.extra: no such option")
    with pytest.raises(UserError):
        performed(checked, tmp_path / "run", Engine(refused), courier)
    assert not (tmp_path / "run" / "tracking.json").exists()
    assert (server.runs, server.experiments) == ({}, {})


def test_an_experiment_that_is_deleted_meanwhile_is_named_with_its_cure(
    tmp_path: Path,
    checked: Checked,
    outcome: Outcome,
    courier: Courier,
    server: Server,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.experiments["gsm8k"] = "1"
    server.deleted.add("gsm8k")
    checked.config.tracking.uri = server.uri
    performed(checked, tmp_path / "run", Engine(outcome), courier)
    said = capsys.readouterr().err
    assert "experiment 'gsm8k' (id 1) is deleted; restore it" in said
    assert "mlflow experiments restore --experiment-id 1" in said


def test_an_interrupted_run_is_killed_in_mlflow(
    tmp_path: Path, checked: Checked, outcome: Outcome, courier: Courier, server: Server
) -> None:
    checked.config.tracking.uri = server.uri
    stopped = Outcome(State.INTERRUPTED, "interrupted", outcome.tasks)
    verdict, _ = performed(checked, tmp_path / "run", Engine(stopped), courier)
    assert verdict == read_json(tmp_path / "run" / "verdict.json", Verdict)
    assert [run["info"]["status"] for run in server.runs.values()] == ["KILLED"]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_what_a_user_takes_away_costs_a_warning(
    tmp_path: Path,
    checked: Checked,
    outcome: Outcome,
    courier: Courier,
    server: Server,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Careless(Engine):
        def evaluate(self, plan: Plan, run: RunDirectory, *more: object) -> Outcome:
            run.tracking.unlink()
            courier._release(run)
            return super().evaluate(plan, run)

    checked.config.tracking.uri = server.uri
    engine: Any = Careless(outcome)
    verdict = perform(checked, tmp_path / "run", engine, courier, Console(file=io.StringIO()))
    assert verdict.exit_status == 0
    assert "No such file or directory" in capsys.readouterr().err
