"""Owns the worker process: starts it, follows its events, and leaves nothing of it behind."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import psutil

from runner.outcome import Outcome, State
from runner.plan import PLACES, Plan
from runner.processes import group_members, shared_memory_of
from runner.rundir import RunDirectory, read_json, write_json

ORDERLY_EXIT_S = 15.0
ALIVE_CHECK_S = 1.0
LOG_TAIL_LINES = 20


class Display(Protocol):
    """Who shows a person how the run goes."""

    def show(self, event: dict[str, Any]) -> None: ...


class Worker:
    """One worker process in a session and process group of its own."""

    def __init__(self, plan: Plan, log: Path) -> None:
        receiving, sending = os.pipe()
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runner.worker", str(sending)],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=worker_environment(plan),
                pass_fds=(sending,),
                start_new_session=True,
            )
        os.close(sending)
        self._log = log
        self._busy = False
        self._segments: set[Path] = set()
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._receive, args=(receiving,), daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def evaluate(self, run: RunDirectory, display: Display) -> Outcome:
        """Run the plan in the directory to its end, whatever that is."""
        with self._log_in(run):
            return self._evaluate(run, display)

    def _evaluate(self, run: RunDirectory, display: Display) -> Outcome:
        self._busy = True
        self._send({"run_directory": str(run.path.resolve())})
        with run.events.open("a", encoding="utf-8") as log:
            for event in self._follow():
                log.write(json.dumps(event) + "\n")
                log.flush()
                display.show(event)
                if event["event"] == "engine_started":
                    self._note_shared_memory(group_members(self._process.pid))
                if event["event"] == "outcome":
                    self._busy = False
                    outcome: Outcome = read_json(run.outcome, Outcome)
                    return outcome
        return self._died(run)

    def stop(self) -> None:
        """End the worker and its whole group; no process and no shared memory stays."""
        group = group_members(self._process.pid)
        self._note_shared_memory(group)
        if self._process.poll() is None:
            if self._busy:
                self._process.terminate()
            else:
                self._send({"exit": True})
            psutil.wait_procs(group, timeout=ORDERLY_EXIT_S)
        for process in group_members(self._process.pid):
            process.kill()
        self._process.wait()
        psutil.wait_procs(group, timeout=ORDERLY_EXIT_S)
        for segment in self._segments:
            segment.unlink(missing_ok=True)

    @contextmanager
    def _log_in(self, run: RunDirectory) -> Iterator[None]:
        """What the worker says meanwhile belongs to this run, not to its first one."""
        if run.engine_log == self._log:
            yield
            return
        before = self._log.stat().st_size
        try:
            yield
        finally:
            with self._log.open("rb+") as stream, run.engine_log.open("ab") as own:
                stream.seek(before)
                shutil.copyfileobj(stream, own)
                stream.truncate(before)

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

    def _follow(self) -> Iterator[dict[str, Any]]:
        """Events until the worker is gone, though a child of its own may hold the pipe open."""
        while True:
            try:
                event = self._events.get(timeout=ALIVE_CHECK_S)
            except queue.Empty:
                if self._process.poll() is not None:
                    return
                continue
            if event is None:
                return
            yield event

    def _died(self, run: RunDirectory) -> Outcome:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return _ended(run, State.ERROR, f"the worker process died ({how})")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM."""


class Supervisor:
    """Keeps one worker, for as long as runs want the same engine."""

    def __init__(self) -> None:
        self.starts = 0
        self._worker: Worker | None = None
        self._engine = ""

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def evaluate(self, plan: Plan, run: RunDirectory, display: Display) -> Outcome:
        """Evaluate on the engine that is there, or on a new one; an interruption is an Outcome too.

        After anything but a whole run, or a refusal, the worker is not trusted again.
        """
        try:
            with interruptible():
                outcome = self._worker_for(plan, run).evaluate(run, display)
        except Interrupted:
            outcome = _ended(run, State.INTERRUPTED, "interrupted")
        except BaseException:
            self.stop()
            raise
        if outcome.state not in (State.COMPLETED, State.REFUSED):
            self.stop()
        return outcome

    def stop(self) -> None:
        """End the worker, if there is one; an interruption waits for it."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def _worker_for(self, plan: Plan, run: RunDirectory) -> Worker:
        worker = self._worker
        if worker is not None and not (worker.alive and self._engine == plan.engine_fingerprint):
            self.stop()
        if self._worker is None:
            self._worker = Worker(plan, run.engine_log)
            self._engine = plan.engine_fingerprint
            self.starts += 1
        return self._worker


def _ended(run: RunDirectory, state: State, reason: str) -> Outcome:
    """An end that the worker did not report itself; the tasks that it had finished stay."""
    found = read_json(run.outcome, Outcome) if run.outcome.exists() else Outcome(state)
    outcome: Outcome = replace(found, state=state, reason=reason)
    write_json(run.outcome, outcome)
    return outcome


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into one `Interrupted`; after it, both wait for the cleaning up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted

    before = {each: signal.signal(each, interrupt) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            for each, handler in before.items():
                signal.signal(each, handler)


@contextmanager
def deferring() -> Iterator[None]:
    """Let what must be finished finish: Ctrl-C and SIGTERM wait, and come afterwards."""
    came: list[int] = []
    handlers = [signal.SIGINT, signal.SIGTERM]
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in handlers}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if came:
        raise KeyboardInterrupt


def worker_environment(plan: Plan) -> dict[str, str]:
    """The parent's variables, with what the plan sets for the worker alone."""
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
    package_parent = str(Path(__file__).resolve().parent.parent)
    merged = {**os.environ, **fixed, **plan.environment}
    merged["PYTHONPATH"] = os.pathsep.join(
        entry for entry in (merged.get("PYTHONPATH"), package_parent) if entry
    )
    return merged


def log_tail(log: Path) -> str:
    """The last lines of the engine's log."""
    if not log.exists():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:])
