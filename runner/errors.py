"""The one exception that is the user's to mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the configuration or on the machine: printed without a traceback, status 1.

    Each problem is one line that names the configuration key, what is wrong and what to do.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def cause(error: BaseException) -> str:
    """The system's own words beneath an error, which libraries wrap several times; or nothing."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return f"{inner.strerror}: {inner.filename}" if inner.filename else inner.strerror
        inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)
    return ""
