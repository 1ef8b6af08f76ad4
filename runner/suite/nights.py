"""Earlier nights of a suite, and the last one on which an entry PASSED."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner.errors import UserError
from runner.messages import warn
from runner.status import Status
from runner.suite import result
from runner.suite.result import EntryResult, GoodNight, SuiteResult

DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Night:
    """An earlier night's directory and result."""

    directory: Path
    result: SuiteResult


def earlier(directory: Path, name: str, started: float) -> list[Night]:
    """Return the suite's nights before `started`, the latest first.

    They are in the directories beside this one, and beside its date if it has one.
    """
    own = directory.resolve()
    nights = [
        night
        for file in _files(own)
        if file.parent != own
        and (night := _read(file.parent)) is not None
        and night.result.name == name
        and night.result.started < started
    ]
    return sorted(nights, key=lambda night: night.result.started, reverse=True)


def with_last_good(entries: Sequence[EntryResult], nights: Sequence[Night]) -> list[EntryResult]:
    """Return the entries with their last good night, by name, model, task and metric."""
    return [replace(entry, last_good=_last_good(entry, nights)) for entry in entries]


def _files(own: Path) -> Iterator[Path]:
    if DATE.fullmatch(own.parent.name):
        yield from own.parent.parent.glob(f"*/*/{result.NAME}")
    else:
        yield from own.parent.glob(f"*/{result.NAME}")


def _read(directory: Path) -> Night | None:
    try:
        return Night(directory, result.read(directory))
    except (UserError, OSError) as error:
        warn(f"an earlier night is left out: {error}")
        return None


def _last_good(entry: EntryResult, nights: Sequence[Night]) -> GoodNight | None:
    if entry.shown is None:
        return None
    for night in nights:
        for then in night.result.entries:
            if (then.name, then.model, then.task) != (entry.name, entry.model, entry.task):
                continue
            value = next((m.value for m in then.metrics if m.key == entry.shown.key), None)
            if then.verdict == Status.PASSED.value and value is not None and then.directory:
                same = then.evaluation_fingerprint == entry.evaluation_fingerprint
                now = entry.shown.value
                known = same and now is not None and math.isfinite(now)
                change = now - value if known and now is not None else None
                where = str(night.directory / then.directory)
                return GoodNight(night.result.id, where, night.result.started, value, same, change)
    return None
