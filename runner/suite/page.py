"""Renders index.html: a matrix of models and tasks, with a link in every cell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from runner.present.formats import duration, interval, number
from runner.present.template import template
from runner.suite.decision import advice
from runner.suite.markdown import change, night, versions
from runner.suite.result import EntryResult, SuiteResult
from runner.visible import visible

# Columns of the table of entries that it always has.
COLUMNS = 7
# A rejected name lists all that there are.
LONGEST_REASON = 400


@dataclass(frozen=True)
class Row:
    """A model and its entries by task, in the order of the columns."""

    model: str
    cells: tuple[tuple[EntryResult, ...], ...]


def render(result: SuiteResult, directory: Path, mlflow: str = "", needs: str = "") -> str:
    """Render the page in the suite's directory.

    `mlflow` is the suite's page there, and `needs` the command that serves it.
    """
    tasks = tuple(dict.fromkeys(entry.task for entry in result.entries))
    rows = _rows(result.entries, tasks)
    compared = any(entry.last_good is not None for entry in result.entries)
    tested = any(m.p_holm is not None for entry in result.entries for m in entry.metrics)
    linked = any(entry.mlflow for entry in result.entries)
    page = template("suite.html.j2", address=_address, shortened=_shortened)
    return page.render(
        result=result,
        advice=advice(result.entries),
        counts=_counts(result),
        tasks=tasks,
        rows=rows,
        crowded=any(len(cell) > 1 for row in rows for cell in row.cells),
        compared=compared,
        tested=tested,
        linked=linked,
        columns=COLUMNS + 2 * compared + tested + linked,
        number=number,
        interval=interval,
        duration=duration,
        change=change,
        good_report=lambda entry: _good_report(entry, directory),
        night=night,
        versions=versions(result),
        directory=str(directory),
        mlflow=mlflow,
        needs=needs,
    )


def _rows(entries: Sequence[EntryResult], tasks: Sequence[str]) -> list[Row]:
    models = dict.fromkeys(entry.model for entry in entries)
    return [
        Row(
            model,
            tuple(
                tuple(entry for entry in entries if (entry.model, entry.task) == (model, task))
                for task in tasks
            ),
        )
        for model in models
    ]


def _counts(result: SuiteResult) -> dict[str, int]:
    """Number of entries by verdict, those that need attention first."""
    verdicts = [entry.verdict for entry in result.entries]
    return dict(sorted(((v, verdicts.count(v)) for v in set(verdicts)), key=_rank))


def _rank(pair: tuple[str, int]) -> tuple[bool, str]:
    return pair[0] == "PASSED", pair[0]


def _good_report(entry: EntryResult, directory: Path) -> str:
    """Relative path of the report of the last good night; empty if there is none."""
    if entry.last_good is None:
        return ""
    file = Path(entry.last_good.directory) / "report.html"
    return os.path.relpath(file, directory.resolve()) if file.is_file() else ""


def _shortened(reason: str) -> str:
    shown = visible(reason)
    return shown if len(shown) <= LONGEST_REASON else f"{shown[:LONGEST_REASON]}…"


def _address(path: str) -> str:
    return quote(path)
