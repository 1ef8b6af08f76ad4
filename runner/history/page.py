"""Writes history.html, history.md and history.json."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runner.history import findings
from runner.history.charts import SPARK_HEIGHT, SPARK_WIDTH, chart, marks, spark
from runner.history.result import History, Series, State
from runner.history.runs import DEGENERATE, SAMPLE_RATE, START, THROUGHPUT
from runner.history.summary import summary
from runner.history.versions import Version
from runner.language import N_, gettext
from runner.present.formats import cell, fenced
from runner.present.template import template
from runner.rundir import write_atomic, write_json

NAME = "history"
# Series with a chart, the worst first: drawing one takes a tenth of a second.
CHARTS = 8
# Rows of a table of nights; older nights are in history.json.
ROWS = 60
# Series in history.md.
LISTED = 200
TITLES = {
    THROUGHPUT: N_("throughput (tokens/s)"),
    SAMPLE_RATE: N_("throughput (samples/s)"),
    START: N_("engine start (s)"),
    DEGENERATE: N_("degenerate answers"),
}
COLOURS = {
    State.WORSE: "FAILED",
    State.DECLINING: "FAILED",
    State.CHECK: "INCONCLUSIVE",
    State.RECOVERED: "INCONCLUSIVE",
    State.NO_DROP: "PASSED",
    State.TOO_FEW: "UNJUDGED",
}


def write(directory: Path, history: History, command: str) -> None:
    """Write all three files and replace those of an earlier history."""
    write_json(directory / f"{NAME}.json", history)
    write_atomic(directory / f"{NAME}.md", _render(f"{NAME}.md.j2", history, command))
    charts = {number: chart(each) for number, each in enumerate(history.series[:CHARTS])}
    page = _render(f"{NAME}.html.j2", history, command, charts=charts)
    write_atomic(directory / f"{NAME}.html", page)


def _render(name: str, history: History, command: str, **content: Any) -> str:
    page = template(name, cell=cell, fenced=_shell)
    return page.render(
        h=history,
        command=command,
        headline=summary(history),
        rows=[(each, spark(each)) for each in history.series[:LISTED]],
        more=max(len(history.series) - LISTED, 0),
        size=(SPARK_WIDTH, SPARK_HEIGHT),
        marks=marks,
        value=findings.value,
        last=_last,
        name=name_of,
        colours=COLOURS,
        shown=ROWS,
        listed=_listed,
        **content,
    )


def name_of(series: Series) -> str:
    """Return the task and the metric."""
    title = TITLES.get(series.metric)
    return f"{series.task} {gettext(title) if title else series.metric.replace('/', ' ')}"


def _last(series: Series) -> str:
    last = series.last
    return findings.value(series, last.value) if last and last.value is not None else ""


def _listed(versions: Iterable[Version]) -> str:
    return gettext(", ").join(each.said for each in versions)


def _shell(text: str) -> str:
    return fenced(text, "bash")
