"""Compares the answers of two nights, and prints the commands that do so in detail."""

from __future__ import annotations

import shlex
from pathlib import Path

from runner.compare.comparison import compare
from runner.compare.sides import read_side
from runner.errors import UserError
from runner.history.result import Flips, Kind, Night, Series
from runner.history.series import Collected

# Of compare's verdict, which is not used here.
MARGIN = 0.02


def flips(good: Night, bad: Night, collected: Collected) -> Flips | None:
    """Return what changed in the answers; None if the samples are not on this machine."""
    if not (good.local and bad.local):
        return None
    try:
        first, second = (read_side(each.run, Path(each.run)) for each in (good, bad))
        found = compare(first, second, MARGIN)
    except UserError:  # without samples, or written by another version
        return None
    name, _, filter_name = collected.metric.partition("/")
    for row in found.scores:
        if (row.task, row.metric, row.filter) == (collected.task, name, filter_name or "none"):
            changed = found.pairs - found.same
            return Flips(row.n, changed, row.worse, row.better, row.p, row.p)
    return None


def commands(series: Series, uri: str) -> tuple[str, ...]:
    """Return the commands for the last good and the first bad night; none without a bad night."""
    if series.good is None or series.bad is None:
        return ()
    nights = [series.nights[number - 1] for number in (series.good, series.bad)]
    where = [] if all(each.local for each in nights) else ["--uri", uri]
    runs = [each.run for each in nights]
    modules = ["runner.compare"]
    if series.kind not in (Kind.THROUGHPUT, Kind.START):
        modules.append("runner.why")
    return tuple(shlex.join(["python", "-m", module, *runs, *where]) for module in modules)
