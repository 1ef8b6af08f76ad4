"""Earlier nights of a suite, and the last one on which an entry PASSED."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.errors import UserError
from runner.messages import warn
from runner.status import Status
from runner.suite import entries, result
from runner.suite.result import EntryResult, GoodNight, SuiteResult

# What runner/suite/following.py leaves in a night's directory.
REFERENCES = "references.json"
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
        for file in _files(own, result.NAME)
        if file.parent != own
        and (night := _read(file.parent)) is not None
        and night.result.name == name
        and night.result.started < started
    ]
    return sorted(nights, key=lambda night: night.result.started, reverse=True)


def later(directory: Path, name: str, started: float) -> list[Path]:
    """Return the directories of the nights that started after `started`, the latest last."""
    found = _asked(directory.resolve(), name)
    return [place for begun, place in sorted(found) if begun > started]


def unfinished(directory: Path, name: str, since: float) -> list[Path]:
    """Return the directories of nights without a readable result that started after `since`."""
    found = sorted(_asked(directory.resolve(), name))
    return [place for begun, place in found if begun > since and _read(place) is None]


def noted_first(directory: Path, entry: str, place: str) -> str:
    """The first reference run of an entry, as an earlier night's references.json has it.

    `place` is its model and task: `canary_vl/canary`.
    """
    for file in sorted(_files(directory.resolve(), REFERENCES), reverse=True):
        steps: list[dict[str, Any]] = json.loads(file.read_bytes())
        for step in steps:
            if (step.get("entry"), step.get("place")) == (entry, place) and step.get("first"):
                return str(step["first"])
    return ""


def with_last_good(found: Sequence[EntryResult], nights: Sequence[Night]) -> list[EntryResult]:
    """Return the entries with their last good night, by name, model, task and metric."""
    return [replace(entry, last_good=_last_good(entry, nights)) for entry in found]


def _asked(own: Path, name: str) -> Iterator[tuple[float, Path]]:
    """When each night of the suite was started, also without a result, and its directory."""
    for file in _files(own, entries.NAME):
        try:
            asked = entries.read(file.parent)
        except (UserError, OSError):  # of another version; its result says what it was
            continue
        if asked.name == name:
            yield asked.started, file.parent


def _files(own: Path, name: str) -> Iterator[Path]:
    if DATE.fullmatch(own.parent.name):
        yield from own.parent.parent.glob(f"*/*/{name}")
    else:
        yield from own.parent.glob(f"*/{name}")


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
