"""Writes why.html, why.md and why.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from runner.present.formats import cell, fenced
from runner.present.template import template
from runner.rundir import write_atomic, write_json
from runner.trace import findings as trace
from runner.trace.departures import Found
from runner.trace.figure import figures
from runner.trace.findings import WHERE
from runner.trace.page import NAME as NAME_OF_TRACE
from runner.why import findings
from runner.why.ddmin import State
from runner.why.found import Probe
from runner.why.reproduction import issue
from runner.why.result import Why
from runner.why.search import DTYPE

NAME = "why"


def write(directory: Path, why: Why, command: str) -> None:
    """Write all three files and replace those of an earlier search."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / f"{NAME}.json", why)
    write_atomic(directory / f"{NAME}.md", _page(f"{NAME}.md.j2", why, command))
    write_atomic(directory / f"{NAME}.html", _page(f"{NAME}.html.j2", why, command, _plots(why)))


def _page(name: str, why: Why, command: str, plots: Sequence[Any] = ()) -> str:
    page = template(name, cell=cell, fenced=_shell)
    return page.render(
        why=why,
        command=command,
        headline=findings.headline(why),
        findings=findings.findings(why),
        settings=_settings(why),
        rows=[_row(why, each) for each in why.probes],
        issue=issue(why),
        plots=plots,
        where=WHERE,
    )


def _shell(text: str) -> str:
    return fenced(text, "bash")


def _plots(why: Why) -> list[dict[str, Any]]:
    """Each trace with its figures, for the page."""
    return [
        {
            "headline": trace.conclusion(each.trace),
            "findings": trace.findings(each.trace),
            "figures": _departing(each.trace.found),
            "page": f"{Path(each.directory).name}/{NAME_OF_TRACE}.html",
        }
        for each in why.origins
        if each.trace is not None
    ]


def _departing(found: Found | None) -> list[tuple[str, Markup]]:
    """The figures of the phases in which a module departs; all of them are on the trace's page."""
    phases = {each.phase for each in found.modules if each.departs} if found is not None else set()
    return [each for each in figures(found) if each[0] in phases] if found is not None else []


def _settings(why: Why) -> list[tuple[tuple[str, ...], str]]:
    """The changes of each switch, and what the search says of it."""
    parts = {number for each in why.causes if not each.minimal for number in each.switches}

    def said(number: int, changes: tuple[str, ...]) -> str:
        if number in why.guilty:
            return "cause, or part of it" if number in parts else "cause"
        if why.rest is not State.GOOD:
            return ""
        dtype = why.rounding is not None and any(each.startswith(DTYPE) for each in changes)
        return "counts as noise" if dtype else "within noise"

    return [(changes, said(number, changes)) for number, changes in enumerate(why.switches)]


def _row(why: Why, probe: Probe) -> dict[str, Any]:
    """A probe as the table shows it; `on` says for each switch whether it had the bad value."""
    return {
        "purpose": probe.purpose,
        "on": [number in probe.switches for number in range(len(why.switches))],
        "state": probe.state.value,
        "said": findings.WORDS[probe.state],
        "known": probe.state is not State.UNRESOLVED,
        "size": findings.size(probe),
        "between": findings.between(probe),
        "evidence": findings.evidence_of(probe),
        "directory": probe.directory,
    }
