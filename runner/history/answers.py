"""Compares the answers of two nights, and prints the commands that do so in detail."""

from __future__ import annotations

import shlex
from pathlib import Path

from runner import secrecy
from runner.compare.comparison import Comparison, compare
from runner.compare.sides import read_side
from runner.errors import UserError
from runner.history.result import Flips, Kind, Night, Series

# Of compare's verdict, which is not used here.
MARGIN = 0.02
# Pairs of nights whose answers are compared: each takes up to a few seconds.
COMPARED = 8


class Compared:
    """The answers of the first few pairs of nights that are asked for, each compared once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Comparison | None] = {}

    def __call__(self, good: Night, bad: Night, series: Series) -> Flips | None:
        """Return what changed in the answers; None if the samples are not on this machine."""
        if not (good.local and bad.local):
            return None
        pair = good.run, bad.run
        if pair not in self._found:
            if len(self._found) == COMPARED:
                return None
            self._found[pair] = _compared(*pair)
        found = self._found[pair]
        return _flips(found, series) if found is not None else None


def _compared(good: str, bad: str) -> Comparison | None:
    try:
        return compare(read_side(good, Path(good)), read_side(bad, Path(bad)), MARGIN)
    except UserError:  # without samples, or written by another version
        return None


def _flips(found: Comparison, series: Series) -> Flips | None:
    name, _, filter_name = series.metric.partition("/")
    for row in found.scores:
        if (row.task, row.metric, row.filter) == (series.task, name, filter_name or "none"):
            changed = found.pairs - found.same
            return Flips(found.pairs, changed, row.worse, row.better, row.p, row.p)
    return None


def commands(series: Series, uri: str) -> tuple[str, ...]:
    """Return the commands for the last good and the first bad night; none without a bad night."""
    if series.good is None or series.bad is None:
        return ()
    nights = [series.nights[number - 1] for number in (series.good, series.bad)]
    where = [] if all(each.local for each in nights) else ["--uri", secrecy.shown_address(uri)]
    runs = [each.run for each in nights]
    modules = ["runner.compare"]
    if series.kind not in (Kind.THROUGHPUT, Kind.START):
        modules.append("runner.why")
    return tuple(shlex.join(["python", "-m", module, *runs, *where]) for module in modules)
