"""Hands finished runs to the sender, and waits for it a bounded time: MLflow cannot hurt a run.

The sender is a process of its own. It is started, and imports MLflow, while the engine starts, and
serves all points of a sweep; one that does not answer in time is killed, and the run stays pending.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter

from runner.errors import cause
from runner.rundir import RunDirectory, read_json, write_json
from runner.tracking.records import Begun
from runner.tracking.tracked import TrackedRun

# After a failure a sweep's next points wait for a part of the time, until one has arrived again.
LESS_AFTER_A_FAILURE = 3
EXIT_S = 2.0


class NotSent(Exception):
    """The store has not taken it, and why; it can be sent another time."""


class Busy(NotSent):
    """Another process runs it, or is sending it."""


def warn_pending(directory: Path, uri: str, reason: str) -> None:
    """One line, with what brings it to the store later."""
    later = shlex.join(["python", "-m", "runner.sync", str(directory)])
    print(f"warning: not in MLflow yet ({uri}): {reason}; later: {later}", file=sys.stderr)


class Courier:
    """One sender process, for as long as there are runs to send."""

    def __init__(self) -> None:
        self._sender: Sender | None = None
        self._held: dict[Path, Hold] = {}
        self._failed = False

    def __enter__(self) -> Courier:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def begin(self, run: RunDirectory, begun: Begun) -> None:
        """Say on disk where the run will be sent; store and experiment are made meanwhile."""
        write_json(run.tracking, begun)
        # No lock or process to be had: told when the run is to be sent.
        with suppress(NotSent):
            self._hold(run)
        with suppress(OSError):
            self._running().ask("open_experiment", uri=begun.uri, experiment=begun.experiment)

    def open(self, uri: str, experiment: str, timeout_s: float) -> None:
        """Make store and experiment now, before several processes do.

        Raises:
            NotSent: if the store does not answer, or not in time.
        """
        self._ask(timeout_s, "open_experiment", uri=uri, experiment=experiment)

    def send(self, run: RunDirectory, timeout_s: float) -> TrackedRun:
        """Send the run, unless another process is at it.

        Raises:
            NotSent: if it has not arrived whole; its directory is pending then.
        """
        self._hold(run)
        try:
            if run.tracked.exists():  # another process has just sent it
                content = json.loads(run.tracked.read_bytes())
            else:
                content = self._ask(timeout_s, "send_run", directory=str(run.path.resolve()))
        except NotSent:
            self._release(run)
            raise
        self._release(run)
        tracked: TrackedRun = TypeAdapter(TrackedRun).validate_python(content)
        return tracked

    def share_view(self, timeout_s: float, **arguments: Any) -> str:
        """As runner.tracking.sender.share_view says; raises NotSent."""
        return str(self._ask(timeout_s, "share_view", **arguments))

    def send_summary(self, timeout_s: float, **arguments: Any) -> str:
        """As runner.tracking.sender.send_summary says; raises NotSent."""
        return str(self._ask(timeout_s, "send_summary", **arguments))

    def start(self) -> None:
        """Let the sender import MLflow meanwhile."""
        with suppress(OSError):  # no process to be had: told when something is to be sent
            self._running()

    def forget(self, run: RunDirectory) -> None:
        """The run was refused: it is none."""
        self._release(run)
        run.tracking.unlink(missing_ok=True)

    def close(self) -> None:
        """End the sender, whatever it is doing, and name the runs that an interruption left."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        for hold in list(self._held.values()):
            if hold.run.verdict.exists():
                warn_pending(hold.run.path, hold.uri, "interrupted")
            self._release(hold.run)

    def _ask(self, timeout_s: float, call: str, **arguments: Any) -> Any:
        limit = timeout_s / LESS_AFTER_A_FAILURE if self._failed else timeout_s
        self._failed = True
        try:
            sender = self._running()
        except OSError as error:
            raise NotSent(f"no process to send it ({error.strerror})") from error
        try:
            done = sender.answer(sender.ask(call, **arguments), limit)
        except TimeoutError as error:
            sender.close()
            raise NotSent(f"no answer within {limit:g} s") from error
        self._failed = False
        return done

    def _running(self) -> Sender:
        if self._sender is None or not self._sender.alive:
            self._sender = Sender()
        return self._sender

    def _hold(self, run: RunDirectory) -> None:
        """As long as this process lives, no other takes the run for a dead one's, or sends it too.

        On a file system without locks two may send it at once: its key tells them then.
        """
        if run.path in self._held:
            return
        try:
            begun: Begun = read_json(run.tracking, Begun)
            stream = run.tracking.open("r+", encoding="utf-8")
        except (OSError, ValueError) as error:
            raise NotSent(cause(error) or f"{run.tracking}: cannot be read") from error
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            raise Busy("it is running, or another process is sending it") from None
        except OSError:
            pass
        self._held[run.path] = Hold(run, begun.uri, stream)

    def _release(self, run: RunDirectory) -> None:
        hold = self._held.pop(run.path, None)
        if hold is not None:
            hold.stream.close()


@dataclass(frozen=True)
class Hold:
    """A run that this process runs or sends, and the lock on its tracking.json."""

    run: RunDirectory
    uri: str
    stream: IO[str]


class Sender:
    """The process: requests go in, answers come out, in order."""

    def __init__(self) -> None:
        receiving, sending = os.pipe()
        package_parent = str(Path(__file__).resolve().parent.parent.parent)
        path = [entry for entry in (os.environ.get("PYTHONPATH"), package_parent) if entry]
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runner.tracking.sender", str(sending)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            pass_fds=(sending,),
            start_new_session=True,  # Ctrl-C is for the runner to heed
        )
        os.close(sending)
        self._asked = 0
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._receive, args=(receiving,), daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, call: str, **arguments: Any) -> int:
        """Hand a request in; the number that its answer has."""
        assert self._process.stdin is not None
        self._asked += 1
        request = {"number": self._asked, "call": call, "arguments": arguments}
        with suppress(BrokenPipeError, ValueError):  # it is dead: the end of its answers says so
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return self._asked

    def answer(self, number: int, limit_s: float) -> Any:
        """What the request has come to.

        Raises:
            NotSent: if it has failed.
            TimeoutError: if there is no answer within the limit.
        """
        until = time.monotonic() + limit_s
        while True:
            try:
                answer = self._answers.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise TimeoutError from None
            if answer is None:
                raise NotSent(f"the sender died: {self._last_words()}")
            if answer["number"] == number:
                if "failed" in answer:
                    raise NotSent(answer["failed"])
                return answer["done"]

    def close(self) -> None:
        """End the process; idle, it ends at once by itself."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._complaints.close()

    def _last_words(self) -> str:
        code = self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line), f"exit status {code}")

    def _receive(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8") as stream, suppress(ValueError):
            for line in stream:
                self._answers.put(json.loads(line))
        self._answers.put(None)
