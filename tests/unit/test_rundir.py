"""A run directory holds one run, and each file in it is whole or not there."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from runner.attempt import attempt
from runner.environment import Environment
from runner.errors import UserError
from runner.outcome import MetricResult, Outcome
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json, write_atomic, write_json
from runner.verdict import Verdict

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_names_of_the_files(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    names = {value.name for value in vars(run).values() if value != tmp_path}
    assert names == {
        "config.yaml",
        "command.txt",
        ".hydra",
        "plan.json",
        "environment.json",
        "outcome.json",
        "samples.parquet",
        "likeliest.parquet",
        "images.parquet",
        "sketches",
        "verdict.json",
        "report.md",
        "report.html",
        "engine.log",
        "events.jsonl",
        "tracking.json",
        "mlflow.json",
    }


def test_claim_makes_the_directory_and_its_parents(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "a" / "b")
    run.claim()
    assert run.config.is_file()


def test_claim_takes_an_empty_directory(tmp_path: Path) -> None:
    RunDirectory(tmp_path).claim()


def test_of_many_that_claim_at_once_one_does(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def claimed(number: int) -> bool:
        start.wait()
        try:
            RunDirectory(tmp_path / "run").claim()
        except UserError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claimed, range(8))) == 1


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_file_in_the_way_is_no_run(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not writable"):
        RunDirectory(tmp_path / place).claim()


def test_claim_refuses_a_directory_that_holds_a_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.claim()
    write_atomic(run.config, "kept: true\n")
    with pytest.raises(UserError, match=r"^output_dir=.*already contains a run"):
        RunDirectory(tmp_path).claim()
    assert run.config.read_text() == "kept: true\n"


def test_claim_refuses_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^output_dir=.*not writable \(Not a directory\)"):
        RunDirectory(tmp_path / "file" / "run").claim()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_claim_refuses_a_directory_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="not writable"):
        RunDirectory(tmp_path / "run").claim()


def test_claim_names_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _raise_full)
    with pytest.raises(UserError, match="No space left on device"):
        RunDirectory(tmp_path).claim()
    assert list(tmp_path.iterdir()) == []


def _raise_full(descriptor: int) -> None:
    raise FULL


@pytest.mark.parametrize("content", ["text, naïve 🦙\n", b"\x00\xff", ""])
def test_write_atomic_writes_all_of_it_and_nothing_else(
    tmp_path: Path, content: str | bytes
) -> None:
    file = tmp_path / "file"
    write_atomic(file, content)
    assert file.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [file]


def test_write_atomic_replaces(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomic(file, "a much longer text")
    write_atomic(file, "short")
    assert file.read_text() == "short"


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    file = tmp_path / "file"
    write_atomic(file, "old")

    def fail(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        write_atomic(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_first_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _raise_full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "file", "new")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rename_leaves_no_stray_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_atomic(tmp_path / "taken", "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_data_is_on_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename ahead of the flush would show an empty file after a power cut."""
    order: list[str] = []
    fsync, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (order.append("rename"), rename(self, to))[1]
    )
    write_atomic(tmp_path / "file", "text")
    assert order[:2] == ["fsync", "rename"]


def test_every_part_of_a_run_survives_the_disk(
    tmp_path: Path, plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    for value in (plan, environment, outcome, verdict):
        file = tmp_path / "value.json"
        write_json(file, value)
        assert read_json(file, type(value)) == value
        json.loads(file.read_text())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_survives_the_disk(
    tmp_path: Path, outcome: Outcome, verdict: Verdict, metric: MetricResult, value: float
) -> None:
    odd = replace(metric, value=value, stderr=value)
    task = replace(outcome.tasks[0], metrics=(odd,))
    write_json(tmp_path / "outcome.json", replace(outcome, tasks=(task,)))
    again: Outcome = read_json(tmp_path / "outcome.json", Outcome)
    assert repr(again.tasks[0].metrics[0]) == repr(odd)

    judged = replace(verdict.metrics[0], value=value, difference=value, interval=(value, value))
    write_json(tmp_path / "verdict.json", replace(verdict, metrics=(judged,)))
    back: Verdict = read_json(tmp_path / "verdict.json", Verdict)
    assert repr(back.metrics[0]) == repr(judged)


def test_what_is_no_outcome_is_not_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "outcome.json").write_text('{"state": "FINE"}')
    with pytest.raises(ValueError, match="state"):
        read_json(tmp_path / "outcome.json", Outcome)


@pytest.mark.parametrize(
    ("file", "said"),
    [("{}/run/samples.parquet", "output_dir={}/run: "), ("/tmp/x", "/tmp/x: "), (None, "output_d")],
)
def test_a_full_disk_is_named_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str | None, said: str
) -> None:
    place = file.format(tmp_path) if file is not None else None

    def fill() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", place)

    assert attempt(fill, tmp_path / "run") == (2, ())
    assert f"error: {said.format(tmp_path)}" in capsys.readouterr().err
