"""Reads a history from MLflow or from run directories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from runner import secrecy
from runner.errors import UserError
from runner.history.answers import Compared, commands
from runner.history.directories import read_directories
from runner.history.judging import decided, judge
from runner.history.result import WORST_FIRST, History, Kind, Series, State
from runner.history.runs import Run, is_probe, read_stored
from runner.history.series import collect
from runner.stats.change_point import LEVEL
from runner.tracking.courier import Courier
from runner.tracking.stored import stored_runs


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
            stored = stored_runs(uri, int(1000 * since), courier)
            runs = [read_stored(each) for each in stored if not is_probe(each)]
    if not runs:
        option = "--runs" if directories else "--uri"
        raise UserError(f"{option} {source}: no runs{' since that date' if since else ''}")
    judged = sorted((judge(each) for each in collect(runs, wanted, metrics)), key=_order)
    judged = sorted(_decided(judged), key=_order)
    return History(
        source=source,
        runs=len(runs),
        first=_day(runs, min),
        latest=_day(runs, max),
        level=LEVEL,
        series=tuple(replace(each, commands=commands(each, uri)) for each in judged),
        unreadable=tuple(problems),
    )


def _decided(series: Sequence[Series]) -> list[Series]:
    """Compare the answers: first of the series about which they decide."""
    compare = Compared()
    places = sorted(range(len(series)), key=lambda each: series[each].state is not State.CHECK)
    found = {each: decided(series[each], compare) for each in places}
    return [found[each] for each in range(len(series))]


def _order(series: Series) -> tuple[int, bool, str, str, str, str]:
    """The worst first, and among equals accuracy first."""
    state, other = WORST_FIRST.index(series.state), series.kind is not Kind.ACCURACY
    return state, other, series.model, series.task, series.metric, series.label


def _day(runs: Sequence[Run], choose: Callable[[Iterable[float]], float]) -> str:
    started = choose(each.started for each in runs)
    return f"{datetime.fromtimestamp(started, timezone.utc):%Y-%m-%d}"
