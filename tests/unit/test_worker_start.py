"""What the worker does before its first run, and as it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.channel.worker import COMMANDS, EVENTS, Event, Exit, Recorded, WorkerStarted


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", code, *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=True)


def test_what_was_said_before_there_was_a_run_comes_first_in_its_log(tmp_path: Path) -> None:
    early, log = tmp_path / "early.log", tmp_path / "engine.log"
    log.write_text("of the attempt before\n")
    code = """
import os, subprocess, sys
from pathlib import Path
from runner.worker import _write_log_to
early, log = map(Path, sys.argv[1:])
for descriptor in (1, 2):
    os.dup2(os.open(early, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
print("early", flush=False)
_write_log_to(log, early)
print("then", flush=True)
subprocess.run(["echo", "a child's"])
"""
    python(code, str(early), str(log))
    assert log.read_text() == "of the attempt before\nearly\nthen\na child's\n"
    assert not early.exists()


def test_a_library_that_cannot_be_imported_is_the_runs_to_tell() -> None:
    done = python("""
from runner import worker
from runner.runtimes.vllm import Vllm
Vllm.models = "no.such.module"
worker._import("vllm")
print("goes on")
""")
    assert done.stdout == "goes on\n"


def test_a_worker_that_leaves_runs_what_is_registered_and_collects_nothing() -> None:
    done = python("""
import atexit, gc
from runner.supervision.worker_exit import leave
class Cycle:
    def __del__(self): print("collected")
cycle = Cycle(); cycle.itself = cycle; del cycle
def farewell():
    gc.unfreeze(); gc.collect(); print("farewell")
atexit.register(farewell)
leave()
""")
    assert done.stdout == "farewell\n"


def worker(commands: bytes, scratch: Path) -> tuple[list[Event], int, str]:
    """The events, exit status and log of a worker that gets these bytes and no more."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.worker", str(writing), str(scratch)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(writing,),
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    os.close(writing)
    _, said = process.communicate(commands, timeout=60)
    return list(EVENTS.read(os.fdopen(reading, "rb"))), process.returncode, said.decode()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


def test_a_worker_reports_its_start_and_leaves_when_it_is_told_to(scratch: Path) -> None:
    commands = COMMANDS.encode(Recorded()) + COMMANDS.encode(Exit())
    (started,), status, said = worker(commands, scratch)
    assert isinstance(started, WorkerStarted)
    assert (status, said) == (0, "")
    assert scratch.exists()  # the supervisor's to remove


@pytest.mark.parametrize("end", [b"", COMMANDS.encode(Exit())[:-1]], ids=["nothing", "half"])
def test_a_worker_whose_supervisor_is_gone_ends_with_all_that_it_has(
    scratch: Path, end: bytes
) -> None:
    _, status, _ = worker(COMMANDS.encode(Recorded()) + end, scratch)
    assert status == -signal.SIGKILL
    assert not scratch.exists()


def test_a_worker_that_gets_no_command_says_so_and_ends(scratch: Path) -> None:
    _, status, said = worker(b'{"command": "unheard of"}\n', scratch)
    assert status == 1
    assert "ChannelError: not a known command: " in said


def test_a_server_starts_before_requests_are_built_and_no_check_starts_one() -> None:
    done = python("""
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from runner import worker
from runner.lm import datasets
from runner.rundir import RunDirectory
class Lm:
    def launch(self): print("launch")
    def start(self): print("start"); raise SystemExit(0)
worker.read_json = lambda *_: SimpleNamespace(data_dir=None, data_source="", journal=None)
datasets.local_datasets = lambda *_, **__: nullcontext()
worker._load_tasks = lambda *_: (None, [])
worker._create_model = lambda plan, held, *_: setattr(held, "lm", Lm())
worker._build_requests = lambda *_: print("build")
reporter = SimpleNamespace(stage=lambda _: None, send=lambda _: None)
run = RunDirectory(Path("x"))
worker._check(run, worker.Held(""), reporter, {}, True)
worker._evaluate_all(run, worker.Held(""), reporter, None, [], {}, {})
""")
    assert done.stdout.split() == ["build", "launch", "build", "start"]
