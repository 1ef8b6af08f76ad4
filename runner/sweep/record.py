"""Reads and writes sweep.json (the points of a sweep) and point.json (how a point ended)."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.config.overrides import unescaped
from runner.errors import UserError
from runner.language import gettext
from runner.rundir import RunDirectory, read_json, write_json

NAME = "sweep.json"
POINT = "point.json"
# The override that names an entry of a suite.
ENTRY = "suite.entry="
# Point numbers listed in one line.
NUMBERS = 12


@dataclass(frozen=True)
class PointRecord:
    """One point: its number, its overrides and how it ended.

    `status` is a run's exit status, None while it has not ended; `refused` are the problems of a
    point that could not be run.
    """

    number: int
    overrides: tuple[str, ...]
    status: int | None = None
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as last started, with all points of its grid."""

    id: str
    command: str
    points: tuple[PointRecord, ...]
    engine_starts: int = 0
    engine_starts_saved: int = 0

    def axes(self) -> dict[str, tuple[str, ...]]:
        """Return keys whose values differ between points, with the values in order."""
        return axes_of([point.overrides for point in self.points])


def axes_of(overrides: Iterable[Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Return the axes of the given overrides, as SweepRecord.axes does."""
    seen: dict[str, list[str]] = {}
    for point in overrides:
        for override in point:
            key, _, value = override.lstrip("+~").partition("=")
            values = seen.setdefault(key, [])
            if value not in values:
                values.append(value)
    return {key: tuple(values) for key, values in seen.items() if len(values) > 1}


def keys_of_names(points: Iterable[Iterable[str]], said: Iterable[str]) -> set[str]:
    """Return the keys that name points in MLflow, after their model.

    A search asks for one point at a time, and a Slurm job knows no other: what was chosen for it is
    what the command line does not say in the same words, but for Hydra's backslashes.
    """
    points = [tuple(overrides) for overrides in points]
    plain = {each.replace("\\", "") for each in said}
    chosen = {e for overrides in points for e in overrides if e.replace("\\", "") not in plain}
    keys = axes_of(points) or {each.lstrip("+~").partition("=")[0] for each in chosen}
    return set(keys) - {"model"}


def point_name(overrides: Iterable[str], axes: Container[str]) -> str:
    """Return `tp=2 max_model_len=4096`, which distinguishes a point from the others.

    An entry of a suite has a name of its own.
    """
    overrides = tuple(overrides)
    entry = next((each for each in overrides if each.startswith(ENTRY)), None)
    if entry is not None:
        return entry.removeprefix(ENTRY)
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    named = ((key.rpartition(".")[2], unescaped(value)) for key, _, value in pairs if key in axes)
    return " ".join(f"{name}={value}" for name, value in named)


def point_title(number: int, overrides: Iterable[str], axes: Container[str]) -> str:
    """Return `point 3 (tp=2 max_model_len=4096)`."""
    if name := point_name(overrides, axes):
        return gettext("point {number} ({name})", number=number, name=name)
    return gettext("point {number}", number=number)


def points_title(points: Sequence[PointRecord], axes: Container[str]) -> str:
    """Return `point 3 (tp=2) is` or `4 points (0, 1, 2, 3) are`, for an error."""
    if len(points) == 1:
        name = point_name(points[0].overrides, axes)
        return f"point {points[0].number}{f' ({name})' if name else ''} is"
    numbers = ", ".join(str(point.number) for point in points[:NUMBERS])
    more = ", …" if len(points) > NUMBERS else ""
    return f"{len(points)} points ({numbers}{more}) are"


def point_directory(sweep: Path, number: int) -> RunDirectory:
    """Return the directory of a point."""
    return RunDirectory(sweep / str(number))


def write_point(sweep: Path, point: PointRecord) -> None:
    """Write point.json to the directory of the point."""
    directory = sweep / str(point.number)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / POINT, point)


def write(sweep: Path, record: SweepRecord) -> None:
    write_json(sweep / NAME, record)


def read(sweep: Path) -> SweepRecord | None:
    """Read the sweep with the result of each point; None if there is none.

    A third-party launcher writes no sweep.json; then the points are those that ended.
    """
    ended = {point.number: point for point in map(_point, sweep.glob(f"*/{POINT}"))}
    known = read_known(sweep)
    if known is not None:
        return replace(known, points=tuple(ended.get(each.number, each) for each in known.points))
    if not ended:
        return None
    points = tuple(ended[number] for number in sorted(ended))
    return SweepRecord(sweep_id(sweep), "", points, engine_starts=len(points))


def read_known(sweep: Path) -> SweepRecord | None:
    """Read sweep.json; None if there is none."""
    file = sweep / NAME
    if not file.is_file():
        return None
    known: SweepRecord = _read(file, SweepRecord)
    return known


def refused(sweep: Path) -> list[PointRecord]:
    """Return the points whose last start was refused; unreadable records are left out."""
    found: list[PointRecord] = []
    for file in sweep.glob(f"*/{POINT}"):
        with suppress(ValueError):
            found.append(read_json(file, PointRecord))
    return [point for point in found if point.refused]


def note_starts(sweep: Path, starts: int, saved: int) -> None:
    """Add the engine starts of a batch of points to sweep.json."""
    known = read_known(sweep)
    assert known is not None
    added = replace(
        known,
        engine_starts=known.engine_starts + starts,
        engine_starts_saved=known.engine_starts_saved + saved,
    )
    write(sweep, added)


def sweep_id(sweep: Path) -> str:
    """Return `2026-11-22/22-10-11`, the tag of the sweep's runs."""
    return "/".join(sweep.resolve().parts[-2:])


def _point(file: Path) -> PointRecord:
    point: PointRecord = _read(file, PointRecord)
    return point


def _read(file: Path, kind: type[Any]) -> Any:
    try:
        return read_json(file, kind)
    except ValueError as error:
        raise UserError(
            f"{file}: truncated, or written by another version of the runner"
        ) from error
