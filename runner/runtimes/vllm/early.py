"""Starts an engine that has a process of its own before it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def can_start_early(environment: Mapping[str, str]) -> bool:
    """Whether vLLM can start an engine while this process builds requests.

    An engine in this process can't: vLLM sets the seeds of Python and NumPy at its start, and a
    task may draw from them. A process that is forked may copy a lock that the other thread holds.
    """
    apart = environment.get("VLLM_ENABLE_V1_MULTIPROCESSING", "1") != "0"
    return apart and environment.get("VLLM_WORKER_MULTIPROC_METHOD") == "spawn"


class Early(Generic[T]):
    """Something that takes long to make."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._future: Future[T] | None = None

    def begin(self) -> None:
        """Begin to make it, in a thread. Do nothing while it is being made, or if it is made."""
        # What failed before anybody waited was another run's, and its log has the reason.
        if self._future is None or _failed(self._future):
            self._future = Future()
            # An executor's threads are waited for when Python exits, this one is not.
            threading.Thread(target=self._run, args=(self._future,), daemon=True).start()

    def wait(self) -> T:
        """Return it when it is made; begin now if that has not been done.

        Raises:
            whatever making it raised. Then it can be begun again.
        """
        future, self._future = self._future, None
        return self._make() if future is None else future.result()

    def _run(self, future: Future[T]) -> None:
        try:
            future.set_result(self._make())
        except BaseException as error:
            future.set_exception(error)


def _failed(future: Future[Any]) -> bool:
    return future.done() and future.exception() is not None
