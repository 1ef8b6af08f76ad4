"""A sweep's directory: one sweep at a time, and nothing of one that came to nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from runner.config.composed import Composed
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.run import Checked
from runner.rundir import RunDirectory, write_json
from runner.status import Status
from runner.sweep import local, lock, record
from runner.sweep.points import Point
from runner.tracking.courier import Courier
from runner.verdict import Verdict
from tests.unit.test_cli import CHECKOUT, command, environment, left_behind, runner

HOLD = """
import sys
from pathlib import Path
from runner.sweep import lock
lock.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A directory, and the process whose sweep runs there."""
    sweep = tmp_path / "held"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(sweep)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield sweep, process
    process.kill()
    process.wait()


def test_a_second_sweep_in_the_directory_is_refused_by_name(
    held: tuple[Path, subprocess.Popen[str]],
) -> None:
    sweep, process = held
    before = left_behind(sweep)
    asked = ("--multirun", f"hydra.sweep.dir={sweep}", "parallelism.tp=1,2")
    done = runner(sweep.parent, *asked)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    cause = "another sweep is running there (process "
    assert line.startswith(f"error: hydra.sweep.dir={sweep}: {cause}")
    assert f"process {process.pid} on " in line
    assert left_behind(sweep) == before == [lock.NAME]


def test_a_killed_sweep_leaves_its_directory_to_the_next(
    held: tuple[Path, subprocess.Popen[str]],
) -> None:
    sweep, process = held
    with pytest.raises(UserError):
        lock.take(sweep)
    process.kill()
    process.wait()
    lock.take(sweep)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("paralelism.tp=1,2", "Did you mean 'parallelism'?"),
        ("parallelism.tpp=1,2", "Did you mean 'tp'?"),
        ("parallelism.tp=", "could not be converted"),
        ("model=canary_vl,nope", "model=nope: no such choice"),
    ],
)
def test_a_sweep_that_cannot_be_composed_is_one_line_and_leaves_nothing(
    tmp_path: Path, asked: str, said: str
) -> None:
    done = runner(tmp_path, "--multirun", asked)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert said in line
    assert list(tmp_path.rglob("*")) == []


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sweep = tmp_path / "file" / "sweep"
    done = subprocess.run(
        command("--multirun", f"hydra.sweep.dir={sweep}", "parallelism.tp=1,2"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == f"error: hydra.sweep.dir={sweep}: not writable (Not a directory)\n"


@pytest.mark.parametrize(("judged", "status"), [(True, 0), (False, 130)])
def test_a_point_interrupted_in_its_bookkeeping_is_noted_as_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judged: bool, status: int
) -> None:
    def interrupted(checked: Checked, directory: Path, *more: object) -> int:
        directory.mkdir()
        if judged:
            passed = Verdict(Status.PASSED, "", "", (), 0)
            write_json(RunDirectory(directory).verdict, passed)
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "_perform", interrupted)
    points = [
        (
            Point(number, (f"a={number}",), RunConfig(), Composed("")),
            Checked(RunConfig(), Composed(""), *2 * (None,)),
        )  # type: ignore[arg-type]
        for number in range(2)
    ]
    with pytest.raises(KeyboardInterrupt):
        local.perform_group(tmp_path, points, Courier(), Console())
    found = record.read(tmp_path)
    assert found is not None
    assert [(point.number, point.status) for point in found.points] == [(0, status)]


def test_a_comparison_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    (sweep / "sweep.csv").mkdir(parents=True)
    asked = ("--multirun", f"hydra.sweep.dir={sweep}", "engine=ascend_eager", "parallelism.tp=1,2")
    done = runner(tmp_path, *asked)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    said = f"error: {sweep}: the comparison was not written: Is a directory"
    assert done.stderr.splitlines()[-1].startswith(said)
