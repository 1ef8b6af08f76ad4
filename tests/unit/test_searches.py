"""Launchers and sweepers of others, as far as they go without an engine."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.outcome import Outcome
from runner.rundir import RunDirectory, write_json
from runner.status import Status
from runner.sweep import record, search
from runner.sweep.launcher import note_points
from runner.verdict import Verdict
from tests.extras import needs
from tests.slurm import imitate, submitted
from tests.unit.test_cli import command, environment, left_behind, runner

optuna = needs("hydra_plugins.hydra_optuna_sweeper", "search")
slurm = needs("hydra_plugins.hydra_submitit_launcher", "slurm")


# What a search is told


@pytest.fixture
def measured(tmp_path: Path, outcome: Outcome, verdict: Verdict) -> Path:
    files = RunDirectory(tmp_path)
    write_json(files.outcome, outcome)
    write_json(files.verdict, verdict)
    return tmp_path


def test_a_sound_point_tells_its_number(measured: Path) -> None:
    assert search.number("accuracy", measured) == pytest.approx(0.77)
    assert search.number("throughput", measured) == pytest.approx(50.0)
    assert search.number("seconds", measured) == pytest.approx(100.0)


@pytest.mark.parametrize("status", [Status.FAILED, Status.ERROR, Status.REFUSED])
@pytest.mark.parametrize("name", ["accuracy", "throughput", "seconds"])
def test_any_other_is_the_worst_that_can_be(measured: Path, status: Status, name: str) -> None:
    write_json(RunDirectory(measured).verdict, Verdict(status, "", "", (), 3))
    worst = math.inf if name == "seconds" else -math.inf
    assert search.number(name, measured) == worst == search.number(name, measured / "nowhere")


@pytest.mark.parametrize(("direction", "name"), [("minimize", "accuracy"), ("maximize", "seconds")])
def test_a_search_for_the_worst_is_refused(config: RunConfig, direction: str, name: str) -> None:
    config.objective = name
    with pytest.raises(UserError, match=rf"hydra\.sweeper\.direction={direction}"):
        search.check({"direction": direction}, config)


def test_a_grid_has_no_direction(config: RunConfig) -> None:
    search.check({"max_batch_size": None, "params": None}, config)


# What is known of a search


@pytest.mark.parametrize(
    ("points", "names"),
    [
        ([("model=a", "x.tp=1", "n=4"), ("model=a", "x.tp=2", "n=4")], ["tp=1", "tp=2"]),
        ([("model=a", "n=4"), ("model=b", "n=4")], ["", ""]),
        ([("n=4", "++engine.extra.max_num_seqs=8")], ["max_num_seqs=8"]),
    ],
)
def test_a_point_is_called_by_what_it_alone_was_asked(
    points: list[tuple[str, ...]], names: list[str]
) -> None:
    keys = record.keys_of_names(points, ["n=4", "engine.extra.max_num_seqs=choice(1,8)"])
    assert [record.point_name(overrides, keys) for overrides in points] == names


def test_what_hydra_has_escaped_is_what_was_said() -> None:
    asked = ("tracking.uri=sqlite\\:////tmp/x.db", "engine.max_model_len=512")
    said = ["tracking.uri=sqlite:////tmp/x.db", "engine.max_model_len=512,1024"]
    assert record.keys_of_names([asked], said) == {"engine.max_model_len"}


def test_a_batch_adds_to_the_sweep_and_a_new_start_begins_anew(tmp_path: Path) -> None:
    note_points(tmp_path, [["a=1"], ["a=2"]], first=0)
    record.note_starts(tmp_path, 2, 0)
    note_points(tmp_path, [["a=3"]], first=2)
    record.note_starts(tmp_path, 1, 0)
    known = record.read_known(tmp_path)
    assert known is not None
    assert [point.number for point in known.points] == [0, 1, 2]
    assert known.axes() == {"a": ("1", "2", "3")}
    assert known.engine_starts == 3

    note_points(tmp_path, [["a=1"]], first=0)
    known = record.read_known(tmp_path)
    assert known is not None
    assert (len(known.points), known.engine_starts) == (1, 0)


# Optuna


def searched(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return runner(
        directory,
        "--multirun",
        "hydra/sweeper=optuna",
        "hydra.sweep.dir=sweep",
        "engine=cpu",
        "tracking=off",
        *arguments,
    )


def of(directory: Path, name: str) -> Any:
    return json.loads((directory / "sweep" / name).read_text())


@pytest.mark.slow
@optuna
def test_a_search_that_finds_nothing_feasible_ends_with_its_trials(tmp_path: Path) -> None:
    done = searched(
        tmp_path,
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.direction=maximize",
        "parallelism.tp=choice(0,-1)",
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert [point["number"] for point in of(tmp_path, "sweep.json")["points"]] == [0, 1, 2]
    assert {of(tmp_path, f"{number}/point.json")["status"] for number in range(3)} == {1}
    best = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert best["best_value"] == -math.inf


@pytest.mark.slow
@optuna
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "hydra.sweeper.direction=maximize"),
        (("hydra.sweeper.direction=maximize", "preflight_only=true"), "preflight_only=true: "),
    ],
)
def test_a_search_that_cannot_end_well_does_not_begin(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = searched(tmp_path, "engine.max_model_len=choice(512,1024)", *arguments)
    assert done.returncode == 1, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not any("point.json" in path for path in left_behind(tmp_path))


# Slurm


@pytest.mark.slow
@slurm
def test_slurm_gets_a_job_for_each_point_and_their_ends_come_back(tmp_path: Path) -> None:
    tools, cwd = tmp_path / "tools", tmp_path / "cwd"
    variables = imitate(tools)
    cwd.mkdir()
    done = subprocess.run(
        command(
            "--multirun",
            "hydra/launcher=submitit_slurm",
            "hydra.launcher.partition=npu",
            "hydra.launcher.gres=npu:4",
            "hydra.sweep.dir=sweep",
            "engine=cpu",
            "tracking=off",
            "parallelism.tp=0,-1",
        ),
        cwd=cwd,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    options = submitted(tools)
    assert "--partition=npu" in options
    assert "--gres=npu:4" in options
    assert any(option.startswith("--array=0-1") for option in options)
    ends = [of(cwd, f"{number}/point.json") for number in range(2)]
    assert [end["status"] for end in ends] == [1, 1]
    assert ends[1]["refused"] == ["parallelism.tp=-1: must be a whole number of at least 1"]
    assert (cwd / "sweep" / "sweep.md").exists()


@pytest.mark.slow
@slurm
def test_plans_are_shown_here_and_not_in_a_job(tmp_path: Path) -> None:
    done = runner(
        tmp_path,
        "--multirun",
        "hydra/launcher=submitit_local",
        "hydra.sweep.dir=sweep",
        "engine=cpu",
        "preflight_only=true",
    )
    assert done.returncode == 1, done.stderr
    assert of(tmp_path, "0/point.json")["refused"][0].startswith("preflight_only=true: ")
