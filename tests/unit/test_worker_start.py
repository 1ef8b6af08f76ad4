"""What the worker does before its first run, and as it leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


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
from runner.worker import _leave
class Cycle:
    def __del__(self): print("collected")
cycle = Cycle(); cycle.itself = cycle; del cycle
def farewell():
    gc.unfreeze(); gc.collect(); print("farewell")
atexit.register(farewell)
_leave()
""")
    assert done.stdout == "farewell\n"
