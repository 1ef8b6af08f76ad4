"""Base class of the sweep launchers: composes and records points and returns objectives."""

from __future__ import annotations

import shlex
import sys
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner import language
from runner.attempt import attempt
from runner.config.overrides import written
from runner.errors import UserError
from runner.language import gettext
from runner.messages import complain, tell
from runner.status import USAGE_ERROR
from runner.sweep import record, search
from runner.sweep.points import Point, compose
from runner.sweep.record import (
    PointRecord,
    SweepRecord,
    axes_of,
    keys_of_names,
    point_name,
    point_title,
    points_title,
)


class SweepLauncher(Launcher):
    """Composes the points, passes valid ones to `run_points` and returns the objective of each."""

    def __init__(self) -> None:
        self._config: DictConfig | None = None
        self._context: HydraContext | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self._config, self._context = config, hydra_context

    @abstractmethod
    def run_points(self, sweep: Path, points: Sequence[Point]) -> None:
        """Run each point to its end and write its point.json.

        Raises:
            UserError: if `sweep.strict` is on and a point was refused; nothing was started then.
            KeyboardInterrupt: after Ctrl-C, with the bookkeeping done.
        """

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        assert self._config is not None
        setup_globals()
        sweep = Path(str(self._config.hydra.sweep.dir))
        points, refused = self._compose(job_overrides, initial_job_idx)
        if points:  # they share a report, so the first one chooses
            language.use(points[0].config.lang)
        for point in points:
            search.check(self._config.hydra.sweeper, point.config)
        if any(point.config.preflight_only for point in points):
            return _show_plans(points, refused)
        sweep.mkdir(parents=True, exist_ok=True)
        note_points(sweep, job_overrides, initial_job_idx)
        refuse(
            sweep,
            [
                PointRecord(
                    number, tuple(job_overrides[number - initial_job_idx]), refused=error.problems
                )
                for number, error in refused.items()
            ],
        )
        if refused and any(point.config.sweep.strict for point in points):
            raise UserError("sweep.strict=true: a point was refused, so no point was run")
        if points:
            self.run_points(sweep, points)
        return self._returns(sweep, points, job_overrides, initial_job_idx)

    def _compose(
        self, job_overrides: Sequence[Sequence[str]], first: int
    ) -> tuple[list[Point], dict[int, UserError]]:
        assert self._config is not None and self._context is not None
        points, refused = [], {}
        keys = keys_of_names(job_overrides, written(self._config.hydra.overrides.task))
        for number, overrides in enumerate(job_overrides, start=first):
            name = point_name(overrides, keys)
            try:
                points.append(compose(self._context, self._config, overrides, number, name))
            except UserError as error:
                refused[number] = error
        return points, refused

    def _returns(
        self,
        sweep: Path,
        points: Sequence[Point],
        job_overrides: Sequence[Sequence[str]],
        first: int,
    ) -> list[JobReturn]:
        assert self._config is not None
        otherwise = search.infeasible(str(self._config.objective))  # of what was refused
        objectives = {point.number: point.config.objective for point in points}
        numbers = {
            each: search.number(name, sweep / str(each)) for each, name in objectives.items()
        }
        return [
            _returned(overrides, numbers.get(each, otherwise))
            for each, overrides in enumerate(job_overrides, start=first)
        ]


def note_points(sweep: Path, job_overrides: Sequence[Sequence[str]], first: int) -> None:
    """Say in sweep.json what the sweep is; a search adds to it, batch by batch."""
    known = record.read_known(sweep)
    batch = {
        number: PointRecord(number, tuple(overrides))
        for number, overrides in enumerate(job_overrides, start=first)
    }
    before = {point.number: point for point in known.points if first > 0} if known else {}
    points = {**before, **batch}
    record.write(
        sweep,
        SweepRecord(
            record.sweep_id(sweep),
            shlex.join(sys.orig_argv),
            tuple(points[number] for number in sorted(points)),
            known.engine_starts if known and before else 0,
            known.engine_starts_saved if known and before else 0,
        ),
    )


def refuse(sweep: Path, points: Iterable[PointRecord]) -> None:
    """Record refused points; points with the same reason share a message."""
    known = record.read_known(sweep)
    axes = known.axes() if known is not None else {}
    by_problems: dict[tuple[str, ...], list[PointRecord]] = {}
    for point in points:
        by_problems.setdefault(point.refused, []).append(point)
        record.write_point(sweep, replace(point, status=USAGE_ERROR))
    for problems, these in by_problems.items():
        tell(f"{points_title(these, axes)} refused:")
        complain(UserError(*problems))


def _show_plans(points: Sequence[Point], refused: Mapping[int, UserError]) -> list[JobReturn]:
    """Print the plan of every point, then a table of the results."""
    from runner.report import terminal
    from runner.run import show_plan
    from runner.supervision.checking import Checker
    from runner.tracking.courier import Courier

    axes = axes_of([point.overrides for point in points])
    out = terminal.console()
    rows = {
        number: (gettext("point {number}", number=number), *_said(USAGE_ERROR, error.problems, ()))
        for number, error in refused.items()
    }
    for error in refused.values():
        complain(error)
    with Courier() as courier, Checker() as checker:
        for point in points:
            title = point_title(point.number, point.overrides, axes)
            out.print(f"\n{title}")
            unchecked: list[str] = []

            def action(point: Point = point, unchecked: list[str] = unchecked) -> int:
                prospect = show_plan(point.config, courier, out, checker, None)
                unchecked += prospect.unchecked
                return prospect.status

            status, problems = attempt(action, Path())
            statuses.append(status)
            rows[point.number] = (title, *_said(status, problems, unchecked))
    statuses.extend(USAGE_ERROR for _ in refused)
    terminal.show_preflights(out, [rows[number] for number in sorted(rows)])
    return [_returned(point.overrides, 0.0) for point in points] + [
        _returned((), 0.0) for _ in refused
    ]


def _said(status: int, problems: Sequence[str], unchecked: Sequence[str]) -> tuple[str, str]:
    """A point's verdict before it has run, and the first reason."""
    if problems:
        return "REFUSED", problems[0]
    if status:
        return "ERROR", gettext("the check failed; see above")
    if unchecked:
        return "PARTLY CHECKED", gettext("not checked: {fact}", fact=unchecked[0])
    return "CHECKED", ""


# Of points that leave no directory, because nothing was to be started.
statuses: list[int] = []


def _returned(overrides: Sequence[str], value: Any) -> JobReturn:
    returned = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    returned.return_value = value
    return returned
