"""Resumes a sweep in its directory: keeps finished points and moves the others away."""

from __future__ import annotations

import errno
from collections.abc import Hashable, Mapping
from pathlib import Path

from runner.plan import Plan
from runner.run import Checked
from runner.rundir import EARLIER, RunDirectory, read_json
from runner.status import FINAL
from runner.sweep import record
from runner.sweep.points import same_run
from runner.verdict import ReferenceUsed, Verdict

# Errors of a rename to a directory that is there.
TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


def settle(sweep: Path, wanted: Mapping[int, Checked], first: int = 0) -> dict[int, int]:
    """Move finished results to their point numbers and return their exit statuses.

    Results are matched by configuration, because a changed grid renumbers its points. Other results
    move to `earlier/`; nothing is deleted.
    Points that were refused on this start keep the record of it, without their earlier results.
    Points below `first` belong to an earlier batch of the same search, and stay as they are.
    """
    runs = [
        each
        for each in _run_directories(sweep)
        if RunDirectory(each).config.exists() and (each.parent != sweep or int(each.name) >= first)
    ]
    refused = [point for point in record.refused(sweep) if point.number not in wanted]
    matches: dict[int, Path] = {}
    for number, checked in wanted.items():
        runs.sort(key=lambda each, own=sweep / str(number): each != own)  # type: ignore[misc]
        found = next((each for each in runs if status_of(each, checked) is not None), None)
        if found is not None:
            matches[number] = found
            runs.remove(found)
    moved = {
        number: place if place == sweep / str(number) else _set_aside(sweep, place)
        for number, place in matches.items()
    }
    for place in runs:
        if place.parent == sweep:
            _set_aside(sweep, place)
    for number, place in moved.items():
        target = sweep / str(number)
        if place != target:
            if target.exists():  # only the record of a refused point is left there
                _set_aside(sweep, target)
            _move(place, target)
    for point in refused:
        if not (sweep / str(point.number)).exists():  # moved with its earlier result
            record.write_point(sweep, point)
    return {number: _status(sweep / str(number)) for number in moved}


def make_room(directory: Path) -> None:
    """Move an unfinished attempt to `earlier/`."""
    if RunDirectory(directory).config.exists():
        _set_aside(directory.parent, directory)


def status_of(directory: Path, checked: Checked) -> int | None:
    """Return the exit status of the same run if it finished in the directory, else None."""
    files = RunDirectory(directory)
    if not (files.verdict.exists() and files.plan.exists()):
        return None
    try:
        plan: Plan = read_json(files.plan, Plan)
        verdict: Verdict = read_json(files.verdict, Verdict)
    except ValueError:  # another version of the runner's
        return None
    if verdict.status not in FINAL or not _same(plan, checked.plan):
        return None
    used = checked.references.run.used if checked.references is not None else None
    if _identity(verdict.reference) != _identity(used):
        return None
    same = same_run(files.config.read_text(encoding="utf-8"), checked.composed.yaml)
    return verdict.exit_status if same else None


def _same(before: Plan, now: Plan) -> bool:
    """Whether both are of one engine and one evaluation, and no file was rewritten on this host."""
    here = before.unread.partition(" ")[0] == now.unread.partition(" ")[0]
    return (
        now.identified
        and before.engine_fingerprint == now.engine_fingerprint
        and before.evaluation_fingerprint == now.evaluation_fingerprint
        and (before.unread == now.unread or not here)
    )


def _identity(used: ReferenceUsed | None) -> Hashable:
    """The runs that a verdict compared with: an alias may stand for another run by now."""
    if used is None:
        return None
    beside = tuple(tuple(map(_identity, runs)) for runs in (used.noise, used.others))
    return (used.run_id or used.directory, used.evaluation_fingerprint, *beside)


def ended(directory: Path, otherwise: int) -> int:
    """Return the exit status of a run with a verdict, else `otherwise`."""
    return _status(directory) if RunDirectory(directory).verdict.exists() else otherwise


def _run_directories(sweep: Path) -> list[Path]:
    places = [*sweep.glob("[0-9]*"), *sweep.glob(f"{EARLIER}/*")]
    return sorted(each for each in places if each.is_dir())


def _set_aside(sweep: Path, directory: Path) -> Path:
    """Under a name that nothing has yet: `earlier/3`, `earlier/3-2`, …

    Tasks on a cluster do this at the same time, so another can take a free name first.
    """
    place = sweep / EARLIER
    place.mkdir(exist_ok=True)
    name, attempt = directory.name.partition("-")[0], 1
    free = place / name
    while True:
        try:
            if not free.exists():
                return _move(directory, free)
        except OSError as error:
            if error.errno not in TAKEN:
                raise
        attempt += 1
        free = place / f"{name}-{attempt}"


def _move(directory: Path, place: Path) -> Path:
    """Move a run and mark it for upload again, because its directory decides its sweep point."""
    RunDirectory(directory).tracked.unlink(missing_ok=True)
    return directory.rename(place)


def _status(directory: Path) -> int:
    verdict: Verdict = read_json(RunDirectory(directory).verdict, Verdict)
    return verdict.exit_status
