"""The process that imports MLflow (runner/tracking/sender.py), as the runner sees it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from runner.channel.lines import ChannelError, Inbox, Outbox
from runner.channel.sender import ANSWERS, REQUESTS, Done, Failed, R, Refused, Request
from runner.errors import UserError

# It ends at once when its input does; unless it cannot be scheduled.
EXIT_S = 2.0


class NotSent(Exception):
    """The upload failed, with the reason; it can be retried later."""


class SenderProcess:
    """Sends requests to the process and returns answers in order."""

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
        assert self._process.stdin is not None
        self._requests = Outbox(self._process.stdin, REQUESTS)
        self._answers = Inbox(ANSWERS.read(os.fdopen(receiving, "rb")))
        self._unanswered = 0

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, request: Request[Any]) -> None:
        """Send a request whose answer nobody waits for."""
        self._requests.send(request)
        self._unanswered += 1

    def ask(self, request: Request[R], limit_s: float) -> R:
        """Return the result of the request.

        Raises:
            NotSent: if it has failed.
            UserError: if what was asked is the user's to mend.
            TimeoutError: if there is no answer within the limit.
        """
        until = time.monotonic() + limit_s
        self.send(request)
        while True:
            try:
                answer = self._answers.get(max(0.0, until - time.monotonic()))
            except ChannelError as error:
                self.close()
                raise NotSent(f"the upload process failed: {error}") from error
            self._unanswered -= 1
            match answer:
                case None:
                    raise NotSent(f"the upload process died: {self._last_words()}")
                case _ if self._unanswered:
                    continue  # to an earlier request
                case Refused(problems):
                    raise UserError(*problems)
                case Failed(reason):
                    raise NotSent(reason)
                case Done(result):
                    return cast(R, result)

    def close(self) -> None:
        """Stop the process; an idle one ends immediately."""
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
