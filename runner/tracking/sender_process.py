"""The process that imports MLflow (runner/tracking/sender.py), as the runner sees it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

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
        self._asked = 0
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._receive, args=(receiving,), daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, call: str, **arguments: Any) -> int:
        """Send a request; return its number."""
        assert self._process.stdin is not None
        self._asked += 1
        request = {"number": self._asked, "call": call, "arguments": arguments}
        with suppress(BrokenPipeError, ValueError):  # it is dead: the end of its answers says so
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return self._asked

    def answer(self, number: int, limit_s: float) -> Any:
        """Return the result of the request.

        Raises:
            NotSent: if it has failed.
            UserError: if what was asked is the user's to mend.
            TimeoutError: if there is no answer within the limit.
        """
        until = time.monotonic() + limit_s
        while True:
            try:
                answer = self._answers.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise TimeoutError from None
            if answer is None:
                raise NotSent(f"the upload process died: {self._last_words()}")
            if answer["number"] == number:
                if "refused" in answer:
                    raise UserError(*answer["refused"])
                if "failed" in answer:
                    raise NotSent(answer["failed"])
                return answer["done"]

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

    def _receive(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8") as stream, suppress(ValueError):
            for line in stream:
                self._answers.put(json.loads(line))
        self._answers.put(None)
