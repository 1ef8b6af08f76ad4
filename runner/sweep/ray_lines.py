"""What the terminal says while a sweep runs on a Ray cluster."""

from __future__ import annotations

from runner.language import gettext, ngettext
from runner.status import Status
from runner.sweep.schedule import Job


def started(job: Job, place: str) -> str:
    """Return `points 1,2: engine on node-1, NPU 4,5`."""
    return gettext("{points}: engine on {place}", points=_named(job), place=place)


def ended(title: str, verdict: str, seconds: float, place: str) -> str:
    """Return `point 3 (tp=2): PASSED in 41 s (node-1, NPU 4,5)`; without a place if unknown."""
    said = gettext(
        "{point}: {verdict} in {seconds:.0f} s", point=title, verdict=verdict, seconds=seconds
    )
    return gettext("{verdict} ({place})", verdict=said, place=place) if place else said


def lost(times: int, place: str, reason: str) -> str:
    """Return why a point is given up whose task was lost so many times."""
    return ngettext(
        "lost once on {place}: {reason}",
        "lost {count} times, last on {place}: {reason}",
        times,
        place=place,
        reason=reason,
    )


def retried(job: Job, place: str, reason: str, attempt: int, attempts: int) -> str:
    return gettext(
        "{points}: lost on {place} ({reason}); retrying unfinished points "
        "({attempt} of {attempts})",
        points=_named(job),
        place=place,
        reason=reason,
        attempt=attempt,
        attempts=attempts,
    )


def given_up(title: str, reason: str) -> str:
    """Return `point 3 (tp=2): ERROR: lost once on …`."""
    return gettext(
        "{point}: {verdict}: {reason}", point=title, verdict=Status.ERROR.value, reason=reason
    )


def stopping(engines: int) -> str:
    return ngettext(
        "interrupted: stopping {count} engine", "interrupted: stopping {count} engines", engines
    )


def _named(job: Job) -> str:
    """Return `point 3` or `points 3,4`."""
    return ngettext("point {numbers}", "points {numbers}", len(job.points), numbers=job.numbers)
