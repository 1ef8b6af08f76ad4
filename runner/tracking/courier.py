"""Hand finished runs to the upload process with a timeout, so MLflow cannot affect a run.

The sender is a process of its own. It is started, and imports MLflow, while the engine starts, and
serves all points of a sweep; one that does not answer in time is killed, and the run stays pending.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import lock_descriptor

from runner.channel.sender import OpenStore, R, Request, SendRun
from runner.errors import cause
from runner.messages import warn
from runner.rundir import RunDirectory, read_json, write_json
from runner.tracking.records import Begun
from runner.tracking.sender_process import NotSent, SenderProcess
from runner.tracking.tracked import TrackedRun

# After each failure a sweep's next point waits for a part of the time, until one has arrived again:
# long enough for a store that is well.
LESS_AFTER_A_FAILURE = 3
LEAST_S = 2.0


class Busy(NotSent):
    """Another process is running or uploading it."""


def warn_pending(directory: Path, uri: str, reason: str) -> None:
    """Print a warning with the command that uploads the run later."""
    later = shlex.join(["python", "-m", "runner.sync", str(directory)])
    warn(f"not uploaded to MLflow ({uri}): {reason}; upload it later with: {later}")


class Courier:
    """Uploads runs through one sender process."""

    def __init__(self) -> None:
        self._sender: SenderProcess | None = None
        self._held: dict[Path, Hold] = {}
        self._failures = 0

    def __enter__(self) -> Courier:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def begin(self, run: RunDirectory, begun: Begun) -> None:
        """Record on disk where the run will be uploaded, and create the store in the background."""
        write_json(run.tracking, begun)
        # No lock or process to be had: told when the run is to be sent.
        with suppress(NotSent):
            self._hold(run)
        with suppress(OSError):
            self._running().send(OpenStore(begun.uri, begun.experiment))

    def open(self, uri: str, experiment: str, timeout_s: float) -> None:
        """Create the store now, before several processes do.

        Raises:
            NotSent: if the store does not answer, or not in time.
        """
        self.ask(OpenStore(uri, experiment), timeout_s)

    def send(self, run: RunDirectory, timeout_s: float) -> TrackedRun:
        """Upload the run, unless another process is doing so.

        Raises:
            NotSent: if it has not arrived whole; its directory is pending then.
        """
        self._hold(run)
        try:
            if not run.tracked.exists():  # else another process has just sent it
                self.ask(SendRun(run.path.resolve()), timeout_s)
        except NotSent:
            self._release(run)
            raise
        self._release(run)
        tracked: TrackedRun = read_json(run.tracked, TrackedRun)
        return tracked

    def ask(self, request: Request[R], timeout_s: float) -> R:
        """Return the result of the request.

        Raises:
            NotSent: if MLflow has no result, or not in time.
            UserError: if the request has a mistake.
        """
        less = timeout_s / LESS_AFTER_A_FAILURE**self._failures
        limit = min(timeout_s, max(less, LEAST_S))
        self._failures += 1
        try:
            sender = self._running()
        except OSError as error:
            raise NotSent(f"cannot start the upload process ({error.strerror})") from error
        try:
            result = sender.ask(request, limit)
        except TimeoutError as error:
            sender.close()
            raise NotSent(f"no answer within {limit:.1f} s") from error
        except KeyboardInterrupt:  # nobody waits for it any more
            sender.close()
            raise
        self._failures = 0
        return result

    def start(self) -> None:
        """Start the sender so that it imports MLflow in the background."""
        with suppress(OSError):  # no process to be had: told when something is to be sent
            self._running()

    def forget(self, run: RunDirectory) -> None:
        """Drop a run that was refused."""
        self._release(run)
        run.tracking.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop the sender and warn about the runs that an interruption left."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        for hold in list(self._held.values()):
            if hold.run.verdict.exists():
                warn_pending(
                    hold.run.path, hold.uri, "the run was interrupted before it was uploaded"
                )
            self._release(hold.run)

    def _running(self) -> SenderProcess:
        if self._sender is None or not self._sender.alive:
            self._sender = SenderProcess()
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
        free = True
        with suppress(OSError):
            free = lock_descriptor(stream.fileno(), blocking=False)
        if not free:
            stream.close()
            raise Busy("it is still running, or another process is uploading it")
        self._held[run.path] = Hold(run, begun.uri, stream)

    def _release(self, run: RunDirectory) -> None:
        hold = self._held.pop(run.path, None)
        if hold is not None:
            hold.stream.close()


@dataclass(frozen=True)
class Hold:
    """A run that this process runs or uploads, and the lock on its tracking.json."""

    run: RunDirectory
    uri: str
    stream: IO[str]
