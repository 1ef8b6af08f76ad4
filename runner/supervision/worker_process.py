"""The worker process: start it, send it plans, read its events, stop it."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from runner.channel.lines import Inbox, Outbox
from runner.channel.worker import (
    COMMANDS,
    EVENTS,
    PROTOCOL,
    Check,
    Decision,
    EngineStarted,
    Event,
    Exit,
    Import,
    LogTo,
    Looked,
    Recorded,
    Run,
    RunEnded,
    WorkerStarted,
)
from runner.interpreters import only_the_runner, variables_for
from runner.plan import PLACES, Plan
from runner.rundir import RunDirectory
from runner.supervision.failures import Failure
from runner.supervision.limits import Watch
from runner.supervision.processes import group_members, has_ended, name_of, shared_memory_of

ORDERLY_EXIT_S = 15.0
ALIVE_CHECK_S = 1.0
LONGEST_SOCKET_PATH = 107  # sun_path in unix(7), less its last zero
Tell = Callable[[Event], None]
# Whether the task that was just looked at needs no more questions.
Enough = Callable[[Looked], bool]


class Worker:
    """One worker process in a session and process group of its own.

    `log` is where it writes; None for a worker that is started before the run has a directory.
    """

    def __init__(self, plan: Plan, log: Path | None) -> None:
        # Ours, not the worker's: killed, it could not remove what it copied, maybe gigabytes.
        self._scratch = tempfile.mkdtemp(prefix="runner-worker-")
        self.variables = worker_environment(plan)
        self.python = plan.python
        variables = temporary_files_in(self._scratch, self.variables)
        if plan.python is not None:
            code = only_the_runner(Path(self._scratch))
            variables["PYTHONPATH"] = _joined(code, variables.get("PYTHONPATH"))
        receiving, sending = os.pipe()
        self._early_log = Path(self._scratch) / "early.log"
        with (log or self._early_log).open("ab") as stream:
            self._process = subprocess.Popen(
                [
                    plan.python or sys.executable,
                    *("-m", "runner.worker"),
                    str(sending),
                    self._scratch,
                ],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=variables,
                pass_fds=(sending,),
                start_new_session=True,
            )
        os.close(sending)
        assert self._process.stdin is not None
        self._commands = Outbox(self._process.stdin, COMMANDS)
        self._events = Inbox(EVENTS.read(os.fdopen(receiving, "rb")))
        self._log = log
        self._busy = False
        self._segments: set[Path] = set()
        self._engine: dict[psutil.Process, str] = {}

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def unused(self) -> bool:
        """Return whether no run has been sent to it yet."""
        return self._log is None

    def import_libraries(self, runtime: str) -> None:
        """Tell it to import the runtime's libraries; returns immediately."""
        self._commands.send(Import(runtime))

    def evaluate(
        self, run: RunDirectory, tell: Tell, watch: Watch, enough: Enough
    ) -> Failure | None:
        """Run the plan in the directory; None if it wrote an outcome, else why it did not.

        After a limit was broken the worker still lives, and is the caller's to stop.

        Raises:
            ChannelError: if the worker sends anything but events.
        """
        return self._perform(Run(run.path.resolve()), run, tell, watch, enough)

    def check(self, run: RunDirectory, tell: Tell, watch: Watch, weights: bool) -> Failure | None:
        """Like `evaluate`, but end before the engine starts. `weights`: see `Check`."""
        return self._perform(Check(run.path.resolve(), weights), run, tell, watch)

    def _perform(
        self,
        command: Run | Check,
        run: RunDirectory,
        tell: Tell,
        watch: Watch,
        enough: Enough | None = None,
    ) -> Failure | None:
        if self._log is None:
            self._log = run.engine_log
            self._log.touch()
            self._commands.send(LogTo(self._log.resolve(), self._early_log))
        with self._log_in(run, self._log):
            failure = self._until_ended(command, tell, watch, enough)
        if failure is not None and self._early_log.exists():  # it died before it read the command
            with run.engine_log.open("ab") as log:
                log.write(self._early_log.read_bytes())
        return failure

    def _until_ended(
        self, command: Run | Check, tell: Tell, watch: Watch, enough: Enough | None
    ) -> Failure | None:
        self._busy = True
        self._commands.send(command)
        for event in self._follow():
            if event is None:
                self._look_after(watch)
            else:
                if isinstance(event, WorkerStarted) and event.protocol != PROTOCOL:
                    return _other_version(event)
                if isinstance(event, EngineStarted):
                    group = group_members(self._process.pid)
                    self._note_shared_memory(group)
                    self._engine = {each: name_of(each) for each in group}
                tell(event)
                watch.see(event)
                if isinstance(event, Looked) and enough is not None:
                    self._commands.send(Decision(enough(event)))
                if isinstance(event, RunEnded):
                    self._busy = False
                    return None
            if broken := watch.broken():
                return broken
        return self._died()

    def recorded(self, stopped: bool) -> None:
        """Tell the worker that the verdict of the last completed run is on disk."""
        self._commands.send(Recorded(stopped))

    def stop(self) -> None:
        """Stop the worker and its process group; remove its shared memory and scratch files."""
        group = group_members(self._process.pid)
        self._note_shared_memory(group)
        if self._process.poll() is None and not self.unused:
            if self._busy:
                self._process.terminate()
            else:
                self._commands.send(Exit())
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

    def _follow(self) -> Iterator[Event | None]:
        """Events until the worker is gone, though a child of its own may hold the pipe open.

        None says that a moment has passed without one.
        """
        while True:
            try:
                event = self._events.get(ALIVE_CHECK_S)
            except TimeoutError:
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


def _other_version(started: WorkerStarted) -> Failure:
    return Failure(
        f"the worker uses version {started.protocol} of the protocol between runner and worker, "
        f"but this runner uses version {PROTOCOL}: the worker has imported another installation of "
        "the runner; remove it from PYTHONPATH and from the working directory"
    )


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
    merged = {**os.environ, **fixed, **plan.environment}
    if plan.python is not None:  # `Worker` makes the runner importable there
        return variables_for(plan.python, merged)
    package_parent = str(Path(__file__).resolve().parents[2])
    return {**merged, "PYTHONPATH": _joined(merged.get("PYTHONPATH"), package_parent)}


def _joined(*entries: str | None) -> str:
    return os.pathsep.join(entry for entry in entries if entry)
