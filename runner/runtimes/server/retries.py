"""When a request is sent again, and when the server has failed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from runner.runtimes.server.endpoint import own_words, reason

# A proxy's answers while the server behind it is restarting.
GATEWAY = (
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)

TIMEOUT = "timeout"
# An answer that takes too long twice would do so again.
TIMEOUTS = 2


class Failed(Exception):
    """An attempt that is worth another one.

    `kind` is what went wrong, for counting. `gone` says that the server may be restarting. `after`
    is the number of seconds that the server asks to wait.
    """

    def __init__(self, kind: str, words: str, *, gone: bool = False, after: float | None = None):
        super().__init__(words)
        self.kind = kind
        self.gone = gone
        self.after = after


@dataclass(frozen=True)
class Patience:
    """How long the client keeps trying.

    `attempts` is the number of attempts that reach the server and fail. `stall_s` is the number of
    seconds to wait for a server that is gone. `request_s` is the time limit of one attempt.
    """

    attempts: int = 8
    stall_s: float = 600.0
    request_s: float = 1800.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0

    def retrying(self, note: Callable[[Failed], None]) -> AsyncRetrying:
        """Retries of one request. `note` is called with each failure that is retried."""
        story = _Story(self)

        def before_sleep(state: RetryCallState) -> None:
            note(_failure(state))

        return AsyncRetrying(
            retry=retry_if_exception_type(Failed),
            stop=story.ends,
            wait=story.wait,
            before_sleep=before_sleep,
            reraise=True,
        )


@dataclass
class _Story:
    """The failures of one request."""

    patience: Patience
    failures: int = 0
    timeouts: int = 0
    gone_since: float | None = None
    waits: int = 0

    def ends(self, state: RetryCallState) -> bool:
        failed, now = _failure(state), time.monotonic()
        if failed.after is not None and failed.after > self.patience.stall_s:
            return True
        if failed.gone:
            self.gone_since = self.gone_since or now
            return now - self.gone_since > self.patience.stall_s
        self.gone_since = None
        self.failures += 1
        self.timeouts += failed.kind == TIMEOUT
        return self.failures >= self.patience.attempts or self.timeouts >= TIMEOUTS

    def wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt: exponential, and different for concurrent requests."""
        self.waits += 1
        patience = self.patience
        longest = min(patience.first_wait_s * 2.0 ** (self.waits - 1), patience.longest_wait_s)
        return max(random.uniform(longest / 2, longest), _failure(state).after or 0.0)


def _failure(state: RetryCallState) -> Failed:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Failed)
    return error


def connection_failed(error: Exception) -> Failed:
    """A connection that could not be made, or ended before the answer was complete."""
    gone = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    kind = "connection refused" if gone else "connection lost"
    return Failed(kind, f"{kind}: {reason(error)}", gone=gone)


def answered_badly(response: httpx.Response) -> Failed | None:
    """The failure behind a status that may be different next time; None for any other status."""
    status = response.status_code
    busy = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT)
    if not busy and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return None
    return Failed(
        f"HTTP {status}",
        f"HTTP {status}: {own_words(response)}",
        gone=status in GATEWAY,
        after=_retry_after(response.headers.get("Retry-After")),
    )


def _retry_after(said: str | None) -> float | None:
    """Seconds in a Retry-After header, which holds a number or a date."""
    if not said:
        return None
    try:
        return max(float(said), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(said).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
