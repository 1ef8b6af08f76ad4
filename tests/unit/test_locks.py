"""Locks: of journal files, sweep directories, prepared directories and runs.

Each is released when its process dies, whatever that process has started, and a file system without
locks prevents no run.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.config.schema import RunConfig
from runner.environment import Environment
from runner.errors import UserError
from runner.journal import attempts
from runner.plan import Plan
from runner.prepare import fetching
from runner.rundir import RunDirectory, write_json
from runner.sweep import lock
from runner.tracking import records
from runner.tracking.courier import Busy, Courier
from runner.tracking.sender import _is_held
from tests.unit.test_cli import CHECKOUT

# Takes every lock below a directory. Its child keeps all descriptors that can be inherited.
HOLDER = """
import subprocess, sys
from pathlib import Path
from runner.journal import attempts
from runner.prepare import fetching
from runner.rundir import RunDirectory
from runner.sweep import lock
from runner.tracking.courier import Courier
place = Path(sys.argv[1])
attempts.create(place / "journal" / "engine")
lock.take(place / "sweep")
prepared = fetching.locked(place / "prepared")
prepared.__enter__()
courier = Courier()
courier._hold(RunDirectory(place / "run"))
child = subprocess.Popen(["sleep", "600"], close_fds=False, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path, config: RunConfig, plan: Plan, environment: Environment) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.claim()
    write_json(directory.tracking, records.begin(config, plan, environment, 1000))
    return directory


@pytest.fixture
def holder(run: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    """A process that holds every lock, and has a child."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.path.parent)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    os.kill(child, signal.SIGKILL)  # fails if it has not outlived its parent


@pytest.fixture
def lockless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks."""

    def refused(*arguments: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refused)


def journal_file(place: Path) -> Path:
    (file,) = (place / "journal" / "engine").iterdir()
    return file


def prepare(place: Path) -> None:
    with fetching.locked(place / "prepared"):
        pass


def hold(run: RunDirectory) -> None:
    with Courier() as courier:
        courier._hold(run)


def test_what_a_living_process_holds_is_refused_and_what_a_dead_one_held_is_free(
    holder: subprocess.Popen[str], run: RunDirectory
) -> None:
    place = run.path.parent
    takes: list[tuple[type[Exception], Callable[[], object]]] = [
        (UserError, lambda: lock.take(place / "sweep")),
        (UserError, lambda: prepare(place)),
        (Busy, lambda: hold(run)),
    ]
    for refusal, take in takes:
        with pytest.raises(refusal, match=r"running|uploading"):
            take()
    assert attempts.seize(journal_file(place)) is None
    assert [each.state for each in attempts.attempts(place / "journal")] == ["running"]
    assert _is_held(run.tracking)

    holder.kill()
    holder.wait()
    for _, take in takes:
        take()
    assert [each.state for each in attempts.attempts(place / "journal")] == ["stopped"]
    assert not _is_held(run.tracking)


def test_a_lock_changes_no_file_and_adds_none(run: RunDirectory) -> None:
    def content() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in run.path.iterdir()}

    before = content()
    with Courier() as courier:
        courier._hold(run)
        assert content() == before
        assert _is_held(run.tracking)
    assert content() == before


def test_a_file_that_somebody_just_looks_at_is_not_used_for_a_new_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[tuple[Path, int]] = []
    lock = attempts.lock_descriptor

    def after_another(descriptor: int, *, blocking: bool) -> bool:
        if not looked_at:
            (file,) = tmp_path.iterdir()
            looked_at.append((file, os.open(file, os.O_RDWR)))
            assert lock(looked_at[0][1], blocking=False)
        return lock(descriptor, blocking=blocking)

    monkeypatch.setattr(attempts, "lock_descriptor", after_another)
    file, descriptor = attempts.create(tmp_path)
    (other, looking), *_ = looked_at
    os.close(looking)
    assert (attempts.held(file), attempts.held(other)) == (True, False)
    os.close(descriptor)


@pytest.mark.parametrize("lockless", [errno.EOPNOTSUPP, errno.ENOLCK], indirect=True)
def test_a_file_system_without_locks_prevents_nothing_but_the_journal(
    lockless: None, run: RunDirectory
) -> None:
    place = run.path.parent
    lock.take(place / "sweep")
    prepare(place)
    hold(run)
    assert not _is_held(run.tracking)
    with pytest.raises(OSError):  # the run goes on without it (runner/lm/journal.py)
        attempts.create(place / "journal" / "engine")
    assert attempts.seize(journal_file(place)) is None
