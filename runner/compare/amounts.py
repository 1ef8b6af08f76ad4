"""Differences of scores as text: with their interval, and without their unit."""

from __future__ import annotations

from functools import partial

from runner.compare.scores import Scores
from runner.language import gettext
from runner.sweep.axis_findings import amount

# A difference as `amount` writes it, without its unit.
bare = partial(amount, unit=False)


def by_how_much(row: Scores) -> str:
    """Return `31.2 points (95 % 26.8 to 35.3)`, without a sign."""
    sized = amount(abs(row.difference), row.share, sign=False)
    if row.interval is None:
        return sized
    if row.interval[0] * row.interval[1] < 0:
        return _with_interval(amount(row.difference, row.share), bounds(row))
    low, high = (bare(end, row.share, sign=False) for end in sorted(map(abs, row.interval)))
    return _with_interval(sized, gettext("{low} to {high}", low=low, high=high))


def bounds(row: Scores) -> str:
    """Return `−35.3 to −26.8`, in points if scores are shares; empty without an interval."""
    if row.interval is None:
        return ""
    low, high = (bare(end, row.share) for end in row.interval)
    return gettext("{low} to {high}", low=low, high=high)


def _with_interval(size: str, interval: str) -> str:
    return gettext("{size} (95 % {interval})", size=size, interval=interval)
