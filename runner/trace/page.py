"""Writes trace.md, trace.html and trace.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.present.formats import cell, times
from runner.present.template import template
from runner.rundir import write_atomic, write_json
from runner.trace.blocks import block_table
from runner.trace.departures import FACTOR
from runner.trace.figure import figures
from runner.trace.findings import WHERE, coverage, findings, headline, method, parts
from runner.trace.result import TraceResult

NAME = "trace"


def write(directory: Path, result: TraceResult, command: str) -> None:
    """Write all three files and replace those of an earlier trace."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / f"{NAME}.json", result)
    write_atomic(directory / f"{NAME}.md", markdown(result, command))
    write_atomic(directory / f"{NAME}.html", html(result, command))


def html(result: TraceResult, command: str) -> str:
    """Render the self-contained page."""
    plots = figures(result.found) if result.found is not None else []
    return _page("trace.html.j2", result, command, plots=plots)


def markdown(result: TraceResult, command: str) -> str:
    """Render the result as Markdown, for example for an issue."""
    return _page("trace.md.j2", result, command)


def _page(name: str, result: TraceResult, command: str, **more: Any) -> str:
    page = template(name, cell=cell, times=times)
    return page.render(
        t=result,
        command=command,
        headline=headline(result),
        findings=findings(result),
        coverage=coverage(result),
        method=method(),
        parts=parts(result.found) if result.found is not None else [],
        block=block_table(result),
        graphs=[(each.letter, parts(each.found)) for each in result.graphs if each.found],
        where=WHERE,
        factor=FACTOR,
        **more,
    )
