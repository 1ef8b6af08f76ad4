"""The one exception that is the user's to mend."""

from __future__ import annotations

import errno
from collections.abc import Iterator

FULL = (errno.ENOSPC, errno.EDQUOT)


class UserError(Exception):
    """A mistake in the configuration or on the machine: printed without a traceback, status 1.

    Each problem is one line that names the configuration key, what is wrong and what to do.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def cause(error: BaseException) -> str:
    """The system's own words beneath an error, which libraries wrap several times; or nothing."""
    for inner in chain(error):
        if isinstance(inner, OSError) and inner.strerror:
            return f"{inner.strerror}: {inner.filename}" if inner.filename else inner.strerror
    return ""


def out_of_space(error: BaseException) -> bool:
    """Whether a full disk, or a quota that is used up, is beneath the error."""
    return any(isinstance(inner, OSError) and inner.errno in FULL for inner in chain(error))


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what caused it, down to the first."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)
