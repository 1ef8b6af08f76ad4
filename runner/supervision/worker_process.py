"""The worker process: start it, send it plans, read its events, stop it."""

from __future__ import annotations

import getpass
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from runner.plan import PLACES, Plan
from runner.rundir import RunDirectory
from runner.supervision.failures import Failure
from runner.supervision.limits import Watch
from runner.supervision.processes import group_members, has_ended, name_of, shared_memory_of

ORDERLY_EXIT_S = 15.0
ALIVE_CHECK_S = 1.0
LONGEST_SOCKET_PATH = 107  # sun_path in unix(7), less its last zero
Event = dict[str, Any]


class Worker:
    """One worker process in a session and process group of its own.

    `log` is where it writes; None for a worker that is started before the run has a directory.
    """

    def __init__(self, plan: Plan, log: Path | None) -> None:
        # Ours, not the worker's: killed, it could not remove what it copied, maybe gigabytes.
        self._scratch = tempfile.mkdtemp(prefix="runner-worker-")
        self.variables = worker_environment(plan)
        receiving, sending = os.pipe()
        self._early_log = Path(self._scratch) / "early.log"
        with (log or self._early_log).open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runner.worker", str(sending), self._scratch],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=temporary_files_in(self._scratch, self.variables),
                pass_fds=(sending,),
                start_new_session=True,
            )
        os.close(sending)
        self._log = log
        self._busy = False
        self._segments: set[Path] = set()
        self._engine: dict[psutil.Process, str] = {}
        self._events: queue.Queue[Event | None] = queue.Queue()
        threading.Thread(target=self._receive, args=(receiving,), daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def unused(self) -> bool:
        """Return whether no run has been sent to it yet."""
        return self._log is None

    def import_libraries(self, runtime: str) -> None:
        """Tell it to import the runtime's libraries; returns immediately."""
        self._send({"import": runtime})

    def evaluate(
        self, run: RunDirectory, tell: Callable[[Event], None], watch: Watch, **options: Any
    ) -> Failure | None:
        """Run the plan in the directory; None if it wrote an outcome, else why it did not.

        After a limit was broken the worker still lives, and is the caller's to stop. With the
        option `check`, the run ends before its engine starts.
        """
        if self._log is None:
            self._log = run.engine_log
            self._log.touch()
            options |= {"log": str(self._log.resolve()), "early_log": str(self._early_log)}
        with self._log_in(run, self._log):
            failure = self._evaluate(run, tell, watch, options)
        if failure is not None and self._early_log.exists():  # it died before it read the command
            with run.engine_log.open("ab") as log:
                log.write(self._early_log.read_bytes())
        return failure

    def _evaluate(
        self, run: RunDirectory, tell: Callable[[Event], None], watch: Watch, options: Event
    ) -> Failure | None:
        self._busy = True
        self._send({"run_directory": str(run.path.resolve()), **options})
        for event in self._follow():
            if event is None:
                self._look_after(watch)
            else:
                if event["event"] == "engine_started":
                    group = group_members(self._process.pid)
                    self._note_shared_memory(group)
                    self._engine = {each: name_of(each) for each in group}
                tell(event)
                watch.see(event)
                if event["event"] == "outcome":
                    self._busy = False
                    return None
            if broken := watch.broken():
                return broken
        return self._died()

    def recorded(self) -> None:
        """Tell the worker that the verdict of the last completed run is on disk."""
        self._send({"recorded": True})

    def stop(self) -> None:
        """Stop the worker and its process group; remove its shared memory and scratch files."""
        group = group_members(self._process.pid)
        self._note_shared_memory(group)
        if self._process.poll() is None and not self.unused:
            if self._busy:
                self._process.terminate()
            else:
                self._send({"exit": True})
            psutil.wait_procs(group, timeout=ORDERLY_EXIT_S)
        # All at once: a rank that outlives its resource tracker starts another, which fails aloud.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # one that hangs in a driver cannot be killed
            self._process.wait(ORDERLY_EXIT_S)
        psutil.wait_procs(group, timeout=ORDERLY_EXIT_S)
        for segment in self._segments:
            segment.unlink(missing_ok=True)
        shutil.rmtree(self._scratch, ignore_errors=True)

    @contextmanager
    def _log_in(self, run: RunDirectory, log: Path) -> Iterator[None]:
        """What the worker says meanwhile belongs to this run, not to its first one."""
        if run.engine_log == log:
            yield
            return
        before = log.stat().st_size
        try:
            yield
        finally:
            with log.open("rb+") as stream, run.engine_log.open("ab") as own:
                stream.seek(before)
                shutil.copyfileobj(stream, own)
                stream.truncate(before)

    def _look_after(self, watch: Watch) -> None:
        if not self._engine:  # its ranks hold shared memory long before it has started
            self._note_shared_memory(group_members(self._process.pid))
        for process, name in self._engine.items():
            if has_ended(process):
                watch.lose(name)

    def _note_shared_memory(self, group: list[psutil.Process]) -> None:
        """While they live: a rank that dies with the worker leaves nothing to ask."""
        self._segments |= shared_memory_of(group)

    def _send(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it is dead: the end of its events says so

    def _receive(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8") as stream, suppress(ValueError):
            for line in stream:
                self._events.put(json.loads(line))  # a killed worker may leave half a line
        self._events.put(None)

    def _follow(self) -> Iterator[Event | None]:
        """Events until the worker is gone, though a child of its own may hold the pipe open.

        None says that a moment has passed without one.
        """
        while True:
            try:
                event = self._events.get(timeout=ALIVE_CHECK_S)
            except queue.Empty:
                if self._process.poll() is not None:
                    return
                yield None
                continue
            if event is None:
                return
            yield event

    def _died(self) -> Failure:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return Failure(f"the worker process died ({how})", transient=code < 0)


def temporary_files_in(scratch: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables, with `scratch` as the directory for temporary files.

    A killed engine leaves them behind. What other processes look for there, a Ray cluster's address
    and compiled kernels, stays where it was; so do sockets whose path would be too long.
    """
    outside = tempfile.gettempdir()
    kept = {
        "RAY_TMPDIR": outside,
        "TORCHINDUCTOR_CACHE_DIR": str(Path(outside) / f"torchinductor_{getpass.getuser()}"),
    }
    if len(scratch) + len(f"/{uuid.uuid4()}") > LONGEST_SOCKET_PATH:
        kept["VLLM_RPC_BASE_PATH"] = outside
    return {**kept, **variables, "TMPDIR": scratch}


def worker_environment(plan: Plan) -> dict[str, str]:
    """Return the parent's variables plus those that the plan sets only for the worker."""
    fixed = {
        # lm-eval would encode every image as PNG, twice, to hash it; the runner hashes pixels.
        "LMEVAL_HASHMM": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    places = [plan.engine_args[name] for name in PLACES if name in plan.engine_args]
    if all(Path(place).is_dir() for place in places) and plan.data_dir is not None:
        # Nothing is left to fetch: do not wait for a hub that may not answer.
        fixed |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    package_parent = str(Path(__file__).resolve().parents[2])
    merged = {**os.environ, **fixed, **plan.environment}
    merged["PYTHONPATH"] = os.pathsep.join(
        entry for entry in (merged.get("PYTHONPATH"), package_parent) if entry
    )
    return merged
