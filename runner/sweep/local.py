"""Runs a sweep on this machine: checks all points first, then starts engine after engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from runner.attempt import attempt
from runner.errors import UserError
from runner.language import gettext, ngettext
from runner.report import terminal
from runner.run import Checked, check, perform
from runner.status import INTERRUPTED
from runner.supervision.interruption import deferring
from runner.supervision.supervisor import Supervisor
from runner.sweep import record, resume
from runner.sweep.engine_groups import grouped
from runner.sweep.launcher import refuse
from runner.sweep.points import Point
from runner.sweep.record import PointRecord, point_title
from runner.tracking.courier import Courier


def run_locally(sweep: Path, points: Sequence[Point]) -> None:
    """Implement SweepLauncher.run_points."""
    out = terminal.console()
    with Courier() as courier:
        _run(sweep, points, courier, out)


def _run(sweep: Path, points: Sequence[Point], courier: Courier, out: Console) -> None:
    ready = check_all(sweep, points, courier, out)
    first = min(point.number for point in points)
    done = resume.settle(sweep, {number: checked for number, (_, checked) in ready.items()}, first)
    for number, status in done.items():
        record.write_point(sweep, PointRecord(number, ready[number][0].overrides, status))
    if not ready:
        return
    left = [pair for number, pair in ready.items() if number not in done]
    groups = grouped([(point.config, (point, checked)) for point, checked in left])
    refused = len(points) - len(ready)
    _announce(out, len(points), refused, len(done), len(left), len(groups))
    record.note_starts(sweep, len(groups), len(left) - len(groups))
    for group in groups:
        perform_group(sweep, group, courier, out)


def check_all(
    sweep: Path, points: Sequence[Point], courier: Courier, out: Console
) -> dict[int, tuple[Point, Checked]]:
    """Return the points that can run; refuse the others before the first engine starts.

    Raises:
        UserError: if `sweep.strict` is on and a point was refused.
    """
    ready: dict[int, tuple[Point, Checked]] = {}
    refused = []
    for point in points:
        try:
            ready[point.number] = point, check(point.config, point.composed, courier, out)
        except UserError as error:
            refused.append(PointRecord(point.number, point.overrides, refused=error.problems))
    refuse(sweep, refused)
    if len(ready) < len(points) and any(point.config.sweep.strict for point in points):
        raise UserError("sweep.strict=true: a point was refused, so no point was run")
    return ready


def perform_group(
    sweep: Path, group: Sequence[tuple[Point, Checked]], courier: Courier, out: Console
) -> None:
    """Run the points of one engine in turn and write a point.json for each.

    A failed point does not affect the others.

    Raises:
        KeyboardInterrupt: after the interrupted point's bookkeeping.
    """
    known = record.read_known(sweep)
    axes = known.axes() if known is not None else {}
    with Supervisor() as engine:
        for point, checked in group:
            directory = sweep / str(point.number)
            resume.make_room(directory)
            out.print(f"\n{point_title(point.number, point.overrides, axes)}")
            ended = PointRecord(point.number, point.overrides, INTERRUPTED)
            try:
                action = partial(_perform, checked, directory, engine, courier, out)
                status, problems = attempt(action, directory)
                ended = replace(ended, status=status, refused=problems)
            except KeyboardInterrupt:  # after its verdict, or before anything was asked
                ended = replace(ended, status=resume.ended(directory, otherwise=INTERRUPTED))
                raise
            finally:
                with deferring():
                    record.write_point(sweep, ended)
            if ended.status == INTERRUPTED:
                raise KeyboardInterrupt


def _perform(
    checked: Checked, directory: Path, engine: Supervisor, courier: Courier, out: Console
) -> int:
    return perform(checked, directory, engine, courier, out, brief=True).exit_status


def _announce(out: Console, points: int, refused: int, done: int, left: int, engines: int) -> None:
    parts = [ngettext("{count} point", "{count} points", points)]
    if refused:
        parts.append(gettext("{count} refused", count=refused))
    if done:
        parts.append(gettext("{count} already done", count=done))
    if left:
        parts.append(
            ngettext(
                "{points} to run on {count} engine",
                "{points} to run on {count} engines",
                engines,
                points=left,
            )
        )
        if left > engines:
            parts.append(
                ngettext(
                    "{count} engine start saved", "{count} engine starts saved", left - engines
                )
            )
    out.print(gettext("sweep: {parts}", parts=gettext(", ").join(parts)))
