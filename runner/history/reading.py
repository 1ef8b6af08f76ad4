"""Reads a history from MLflow or from run directories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from runner import secrecy
from runner.errors import UserError
from runner.history import answers
from runner.history.directories import read_directories
from runner.history.judging import judge
from runner.history.result import WORST_FIRST, Flips, History, Kind, Night, Series
from runner.history.runs import Run, read_stored
from runner.history.series import Collected, collect
from runner.stats.change_point import LEVEL
from runner.tracking.courier import Courier
from runner.tracking.stored import stored_runs

# Pairs of nights whose answers are compared: each takes up to a few seconds.
COMPARED = 8


def read(
    directories: Sequence[Path],
    uri: str,
    since: float,
    wanted: Sequence[str],
    metrics: Sequence[str],
) -> History:
    """Read and judge all series; `since` is in seconds since 1970.

    Raises:
        UserError: if there are no runs, or a pattern matches nothing.
    """
    problems: list[str] = []
    if directories:
        if missing := [each for each in directories if not each.is_dir()]:
            raise UserError(f"--runs {missing[0]}: no such directory")
        source = ", ".join(map(str, directories))
        runs, problems = read_directories(directories)
        runs = [each for each in runs if each.started >= since]
    else:
        source = secrecy.shown_address(uri)
        with Courier() as courier:
            runs = [read_stored(each) for each in stored_runs(uri, int(1000 * since), courier)]
    if not runs:
        option = "--runs" if directories else "--uri"
        raise UserError(f"{option} {source}: no runs{' since that date' if since else ''}")
    compare = _Compare()
    judged = [judge(each, compare) for each in collect(runs, wanted, metrics)]
    judged.sort(key=_order)
    return History(
        source=source,
        runs=len(runs),
        first=_day(runs, min),
        latest=_day(runs, max),
        level=LEVEL,
        series=tuple(replace(each, commands=answers.commands(each, uri)) for each in judged),
        unreadable=tuple(problems),
    )


class _Compare:
    """Compares the answers of the first few pairs of nights that are asked for."""

    def __init__(self) -> None:
        self._left = COMPARED

    def __call__(self, good: Night, bad: Night, collected: Collected) -> Flips | None:
        if not self._left:
            return None
        self._left -= 1
        return answers.flips(good, bad, collected)


def _order(series: Series) -> tuple[int, bool, str, str, str, str]:
    """The worst first, and among equals accuracy first."""
    state, other = WORST_FIRST.index(series.state), series.kind is not Kind.ACCURACY
    return state, other, series.model, series.task, series.metric, series.label


def _day(runs: Sequence[Run], choose: Callable[[Iterable[float]], float]) -> str:
    started = choose(each.started for each in runs)
    return f"{datetime.fromtimestamp(started, timezone.utc):%Y-%m-%d}"
