"""Worker processes that start in milliseconds: forks of a process that has imported everything.

The rest is the worker's own: its main loop, its session and process group, its signals, the pipe on
which it hears of its supervisor's death.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

LARGEST_DESCRIPTOR = 4096


class ForkedWorker:
    """Stands for the `subprocess.Popen` with which worker_process starts a worker."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: IO[bytes],
        env: Mapping[str, str],
        **kept: Any,
    ) -> None:
        reading, writing = os.pipe()
        self.returncode: int | None = None
        self.pid = fork(lambda: _work(command[2:], reading, stdout.fileno(), env), session=True)
        os.close(reading)
        self.stdin = os.fdopen(writing, "wb")

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # psutil has asked for its status, as it may of a Popen's
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + timeout if timeout is not None else None
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("forked worker", timeout or 0)
            time.sleep(0.002)
        return code

    def terminate(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


def fork(work: Callable[[], int], *, session: bool = False) -> int:
    """The pid of a child that does the work and ends with the status that it returns."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        if session:
            os.setsid()
        status = work()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def redirect(file: Path) -> None:
    """Let this process's output go to the file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _work(arguments: Sequence[str], commands: int, log: int, env: Mapping[str, str]) -> int:
    from runner import worker

    events = int(arguments[1])
    os.dup2(commands, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, events)
    os.closerange(events + 1, LARGEST_DESCRIPTOR)
    os.environ.clear()
    os.environ.update(env)
    if "LARGEST_FILE" in env:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(env["LARGEST_FILE"]),) * 2)
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = list(arguments)
    worker.main()
    return 0
