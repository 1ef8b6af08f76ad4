"""Starts `vllm serve` on this machine, for this user alone, and stops it."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

import httpx
import psutil

from runner.runtimes.server.endpoint import Endpoint, ServerError

# Linux's limit is 107 bytes.
LONGEST_SOCKET = 100
POLL_S = 0.25
# For an engine in the worker's own process; a server has processes of its own.
ONLY_IN_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"
# vLLM takes up to 15 s to end everything; its multiprocessing resource tracker is the last.
PATIENCE_S = {signal.SIGINT: 20.0, signal.SIGTERM: 5.0, signal.SIGKILL: 5.0}


class LaunchedServer:
    """`vllm serve` in a process of its own, in the caller's process group.

    What it prints goes where the caller prints. `arguments` are those of `serve_arguments`, `name`
    is the name of the model in the API. The server ends with the caller's process.

    It listens on a socket in a directory that only this user can enter. A port could be used by
    everybody on the machine: vLLM's API key does not protect `/invocations`, which answers prompts.
    """

    def __init__(
        self, arguments: Sequence[str], name: str, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="served-"))
        socket = self._directory / "api.sock"
        if len(os.fsencode(socket)) > LONGEST_SOCKET:
            self._directory.rmdir()
            self._directory = Path(tempfile.mkdtemp(prefix="served-", dir="/tmp"))
            socket = self._directory / "api.sock"
        self.command = (
            sys.executable,
            *("-m", "vllm.entrypoints.cli.main", "serve"),
            *arguments,
            f"--uds={socket}",
            f"--served-model-name={name}",
        )
        self.endpoint = Endpoint("http://localhost/v1", name, socket=str(socket))
        self._process = _started(self.command, environment)
        self._family: set[psutil.Process] = set()
        atexit.register(self.stop)

    def wait(self, limit_s: float) -> None:
        """Wait until the server can answer.

        Raises:
            ServerError: if it ends before, or is not ready in time.
        """
        until = time.monotonic() + limit_s
        with self.endpoint.client() as client:
            while not self._is_ready(client):
                status = self._process.poll()
                if status is not None:
                    raise ServerError(f"vllm serve ended with status {status} before it was ready")
                if time.monotonic() > until:
                    raise ServerError(f"vllm serve was not ready within {limit_s:g} s")
                time.sleep(POLL_S)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End the server and all its processes; does nothing the second time."""
        atexit.unregister(self.stop)
        for number, patience in PATIENCE_S.items():
            left = self._left()
            # The server ends its own children. What outlives it has nobody else.
            main = [each for each in left if each.pid == self._process.pid]
            for process in main if main and number is not signal.SIGKILL else left:
                process.send_signal(number)
            until = time.monotonic() + patience
            while self._left() and time.monotonic() < until:
                time.sleep(POLL_S)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _left(self) -> list[psutil.Process]:
        """All processes of the server that still run, also those whose parents have ended."""
        self._process.poll()  # so that it is no zombie
        try:
            main = psutil.Process(self._process.pid)
            if self._process.returncode is None:
                self._family |= {main, *main.children(recursive=True)}
        except psutil.NoSuchProcess:
            pass
        return [each for each in self._family if _runs(each)]

    def _is_ready(self, client: httpx.Client) -> bool:
        try:
            response = client.get(self.endpoint.root("/health"), timeout=4 * POLL_S)
        except httpx.HTTPError:
            return False
        return response.status_code == HTTPStatus.OK and self.alive


def server_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """A worker's variables, without the one that is for an engine in its own process."""
    return {name: text for name, text in variables.items() if name != ONLY_IN_PROCESS}


def _started(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that heeds SIGINT, which a worker ignores and its children inherit."""
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, env=dict(environment), stdin=subprocess.DEVNULL)
    finally:
        signal.signal(signal.SIGINT, previous)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
