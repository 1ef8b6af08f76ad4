"""Verdict statuses of runs and metrics, and the exit statuses of the process."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Status(str, Enum):
    """The verdict on a metric or a run. REFUSED and ERROR are only used for runs."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNJUDGED = "UNJUDGED"
    ERROR = "ERROR"
    REFUSED = "REFUSED"
    INTERRUPTED = "INTERRUPTED"


# Measured and judged. A run with any other status is run again.
FINAL = (Status.PASSED, Status.FAILED, Status.INCONCLUSIVE, Status.UNJUDGED)

# Exit statuses.
USAGE_ERROR = 1
INFRASTRUCTURE = 2
INACCURATE = 3
NO_VERDICT = 4
INTERRUPTED = 130

EXIT_STATUS = {
    Status.PASSED: 0,
    Status.REFUSED: USAGE_ERROR,
    Status.ERROR: INFRASTRUCTURE,
    Status.FAILED: INACCURATE,
    Status.INCONCLUSIVE: NO_VERDICT,
    Status.UNJUDGED: NO_VERDICT,
    Status.INTERRUPTED: INTERRUPTED,
}
WORST_FIRST = (INTERRUPTED, INACCURATE, INFRASTRUCTURE, NO_VERDICT, USAGE_ERROR)


def worst(statuses: Iterable[int]) -> int:
    """The exit status for several runs; 0 if there are none.

    Failed accuracy outweighs a failed engine, then a missing verdict, then a usage error.
    """
    seen = set(statuses)
    return next((status for status in WORST_FIRST if status in seen), 0)
