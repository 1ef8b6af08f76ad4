"""A sweep that is started again: results are known by what was asked, not by their number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.config.composed import Composed
from runner.config.schema import RunConfig
from runner.plan import Plan
from runner.run import Checked
from runner.rundir import RunDirectory, read_json, write_json
from runner.status import Status
from runner.sweep import resume
from runner.sweep.launcher import refuse
from runner.sweep.points import same_run
from runner.sweep.record import PointRecord
from runner.verdict import ReferenceUsed, Verdict

Ask = Callable[..., Checked]


@pytest.fixture
def ask(config: RunConfig, plan: Plan) -> Ask:
    """A point that asks for a length, and lies on an engine of its own."""

    def asked(length: int, aside: str = "") -> Checked:
        own = replace(plan, engine_fingerprint=f"engine {length}")
        composed = f"engine: {{max_model_len: {length}}}\n{aside}"
        return Checked(config, Composed(composed), own, None)  # type: ignore[arg-type]

    return asked


def leave(sweep: Path, number: int | str, checked: Checked, status: Status, code: int) -> None:
    """As a point leaves its directory, with a mark that tells whose it was."""
    files = RunDirectory(sweep / str(number))
    files.path.mkdir(parents=True)
    checked.composed.write(files)
    write_json(files.plan, checked.plan)
    write_json(files.verdict, Verdict(status, "", "", (), code))
    (files.path / "mark").write_text(checked.composed.yaml)


def mark(directory: Path) -> str:
    return (directory / "mark").read_text().splitlines()[0]


def test_a_larger_grid_takes_its_results_along(tmp_path: Path, ask: Ask) -> None:
    leave(tmp_path, 0, ask(512), Status.PASSED, 0)
    leave(tmp_path, 1, ask(2048), Status.FAILED, 3)
    wanted = {0: ask(256), 1: ask(512), 2: ask(1024), 3: ask(2048)}
    assert resume.settle(tmp_path, wanted) == {1: 0, 3: 3}
    assert mark(tmp_path / "1") == "engine: {max_model_len: 512}"
    assert mark(tmp_path / "3") == "engine: {max_model_len: 2048}"
    assert not (tmp_path / "0").exists() and not (tmp_path / "2").exists()


def test_what_is_wanted_no_more_is_kept_aside_and_found_again(tmp_path: Path, ask: Ask) -> None:
    leave(tmp_path, 0, ask(512), Status.PASSED, 0)
    leave(tmp_path, 1, ask(1024), Status.PASSED, 0)
    assert resume.settle(tmp_path, {0: ask(1024)}) == {0: 0}
    assert mark(tmp_path / "earlier" / "0") == "engine: {max_model_len: 512}"
    assert resume.settle(tmp_path, {0: ask(512), 1: ask(1024)}) == {0: 0, 1: 0}
    assert mark(tmp_path / "0") == "engine: {max_model_len: 512}"


@pytest.mark.parametrize(
    ("status", "code", "done"),
    [
        (Status.PASSED, 0, True),
        (Status.FAILED, 3, True),
        (Status.INCONCLUSIVE, 4, True),
        (Status.UNJUDGED, 4, True),
        (Status.ERROR, 2, False),
        (Status.REFUSED, 1, False),
        (Status.INTERRUPTED, 130, False),
    ],
)
def test_only_what_was_measured_is_done(
    tmp_path: Path, ask: Ask, status: Status, code: int, done: bool
) -> None:
    leave(tmp_path, 0, ask(512), status, code)
    assert resume.settle(tmp_path, {0: ask(512)}) == ({0: code} if done else {})
    assert (tmp_path / "0").exists() is done
    assert (tmp_path / "earlier" / "0").exists() is not done


def test_a_point_that_was_killed_with_its_sweep_is_run_again(tmp_path: Path, ask: Ask) -> None:
    leave(tmp_path, 0, ask(512), Status.PASSED, 0)
    RunDirectory(tmp_path / "0").verdict.unlink()
    assert resume.settle(tmp_path, {0: ask(512)}) == {}
    assert mark(tmp_path / "earlier" / "0") == "engine: {max_model_len: 512}"


def test_where_results_go_is_no_difference_and_what_is_asked_is_one(
    tmp_path: Path, ask: Ask
) -> None:
    leave(tmp_path, 0, ask(512, "output_dir: here\n"), Status.PASSED, 0)
    assert resume.settle(tmp_path, {0: ask(512, "output_dir: there\n")}) == {0: 0}
    assert resume.settle(tmp_path, {0: ask(512, "verdict: {rtol: 1}\n")}) == {}


def test_large_files_that_were_rewritten_in_place_are_asked_again(tmp_path: Path, ask: Ask) -> None:
    def with_state(unread: str) -> Checked:
        return replace(ask(512), plan=replace(ask(512).plan, unread=unread))

    leave(tmp_path, 0, with_state("here 1"), Status.PASSED, 0)
    assert resume.status_of(tmp_path / "0", with_state("here 1")) == 0
    assert resume.status_of(tmp_path / "0", with_state("here 2")) is None
    # Another node of a cluster has its own copy: its inodes say nothing.
    assert resume.status_of(tmp_path / "0", with_state("there 3")) == 0


def test_what_another_version_has_written_is_run_again(tmp_path: Path, ask: Ask) -> None:
    leave(tmp_path, 0, ask(512), Status.PASSED, 0)
    RunDirectory(tmp_path / "0").plan.write_text('{"model": "fixed"}')
    assert resume.settle(tmp_path, {0: ask(512)}) == {}
    assert mark(tmp_path / "earlier" / "0") == "engine: {max_model_len: 512}"


def test_two_attempts_set_aside_do_not_meet(tmp_path: Path, ask: Ask) -> None:
    for _ in range(3):
        leave(tmp_path, 0, ask(512), Status.ERROR, 2)
        resume.make_room(tmp_path / "0")
    assert sorted(each.name for each in (tmp_path / "earlier").iterdir()) == ["0", "0-2", "0-3"]


def test_a_batch_of_a_search_leaves_those_before_it_alone(tmp_path: Path, ask: Ask) -> None:
    leave(tmp_path, 0, ask(512), Status.PASSED, 0)
    leave(tmp_path, 1, ask(1024), Status.PASSED, 0)
    assert resume.settle(tmp_path, {1: ask(512)}, first=1) == {}
    assert mark(tmp_path / "0") == "engine: {max_model_len: 512}"
    assert mark(tmp_path / "earlier" / "1") == "engine: {max_model_len: 1024}"


def test_a_point_that_is_refused_now_keeps_its_reason(tmp_path: Path, ask: Ask) -> None:
    leave(tmp_path, 0, ask(512), Status.PASSED, 0)
    leave(tmp_path, 1, ask(1024), Status.PASSED, 0)
    refuse(tmp_path, [PointRecord(0, (), refused=("no such device",))])
    for wanted in ({1: ask(1024)}, {1: ask(512)}):  # of the second, the result was that of point 0
        assert resume.settle(tmp_path, wanted) == {1: 0}
        now = read_json(tmp_path / "0" / "point.json", PointRecord)
        assert (now.status, now.refused) == (1, ("no such device",))
        assert not (tmp_path / "0" / "verdict.json").exists()
    # Once it is allowed again, its result is found.
    assert resume.settle(tmp_path, {0: ask(512), 1: ask(1024)}) == {0: 0, 1: 0}
    assert mark(tmp_path / "0") == "engine: {max_model_len: 512}"


def test_a_result_takes_the_place_of_a_point_that_was_refused_before(
    tmp_path: Path, ask: Ask
) -> None:
    refuse(tmp_path, [PointRecord(0, (), refused=("no such device",))])
    leave(tmp_path, 1, ask(512), Status.PASSED, 0)
    assert resume.settle(tmp_path, {0: ask(512)}) == {0: 0}
    assert mark(tmp_path / "0") == "engine: {max_model_len: 512}"


def test_a_verdict_by_another_reference_run_is_made_again(tmp_path: Path, ask: Ask) -> None:
    """An alias moves to another run, and a reference run gets other noise runs."""

    def used(run_id: str, *noise: str) -> ReferenceUsed:
        replays = tuple(used(each) for each in noise)
        return ReferenceUsed(
            "baseline@m/t", f"/{run_id}", run_id, "m", "cpu", "TP1", "e", "v", "PASSED", replays
        )

    def against(found: ReferenceUsed | None) -> Checked:
        references = SimpleNamespace(run=SimpleNamespace(used=found)) if found else None
        return replace(ask(512), references=references)  # type: ignore[arg-type]

    leave(tmp_path, 0, ask(512), Status.INCONCLUSIVE, 4)
    judged = Verdict(Status.INCONCLUSIVE, "", "", (), 4, used("a", "n"))
    write_json(tmp_path / "0" / "verdict.json", judged)
    done = resume.status_of(tmp_path / "0", against(used("a", "n")))
    assert done == 4
    moved = replace(used("a", "n"), directory="/elsewhere", status="")
    assert resume.status_of(tmp_path / "0", against(moved)) == 4
    pooled = replace(used("a", "n"), others=(used("b"),))
    for other in (used("b", "n"), used("a"), used("a", "n", "m"), pooled, None):
        assert resume.status_of(tmp_path / "0", against(other)) is None


def test_two_tasks_that_make_room_at_once_take_different_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other task takes `earlier/rung` and `earlier/rung-2` after this one saw them free."""
    for place in ("rung-3", "earlier/rung", "earlier/rung-2"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.yaml").write_text(place)
    exists = Path.exists
    free = ("rung", "rung-2")
    monkeypatch.setattr(Path, "exists", lambda path: path.name not in free and exists(path))
    resume.make_room(tmp_path / "rung-3")
    found = {each.name: (each / "config.yaml").read_text() for each in tmp_path.glob("earlier/*")}
    assert found == {"rung": "earlier/rung", "rung-2": "earlier/rung-2", "rung-3": "rung-3"}


@pytest.mark.parametrize("aside", ["lang: zh", "output_dir: /b", "objective: seconds"])
def test_what_changes_no_number_is_the_same_run(aside: str) -> None:
    assert same_run(f"task: {{seed: 1}}\n{aside}\n", "task: {seed: 1}\n")
    assert not same_run(f"task: {{seed: 2}}\n{aside}\n", "task: {seed: 1}\n")
