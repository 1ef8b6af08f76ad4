"""Finishes a suite: judges its entries and writes the result to screen, disk and MLflow."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from runner.language import gettext
from runner.present import style
from runner.rundir import RunDirectory, write_atomic
from runner.suite import (
    collecting,
    decision,
    entries,
    junit,
    markdown,
    nights,
    page,
    pooled,
    screen,
)
from runner.suite import result as results
from runner.suite import store as suite_store
from runner.suite.result import FORMAT, SuiteResult
from runner.sweep import store
from runner.sweep.summary import Sweep, read_sweep
from runner.tracking.courier import Courier, warn_pending
from runner.tracking.pending import deliver, pending
from runner.tracking.sender_process import NotSent
from runner.tracking.tracked import TrackedRun, needed_command, run_page

HTML, MARKDOWN, JUNIT = "index.html", "suite.md", "junit.xml"
# Timeout for recording the night.
TIMEOUT_S = 30.0


def finish(directory: Path, out: Console) -> int:
    """Judge the suite in the directory, write the results and return its exit status.

    Screen and files come before MLflow, so an unreachable server only causes a warning. Repeating
    it replaces the earlier results.

    Raises:
        UserError: if it is no suite's directory.
    """
    left = pending(directory)
    with Courier() as courier:
        sweep = read_sweep(directory)
        if left or store.places(sweep):
            courier.start()
        found = judged(sweep)
        screen.show(out, found)
        _write(directory, found)
        link = style.file_link(directory / HTML)
        others = ", ".join((MARKDOWN, JUNIT, results.NAME))
        also = gettext(" (also: {files})", files=others)
        out.print(Text.assemble(gettext("report: "), link, also))
        if left:
            _send(courier, left, directory)
            sweep = read_sweep(directory)  # what has arrived has a link now
            found = _relinked(found, sweep)
            _write(directory, found)
        _record(courier, directory, sweep, found, out)
    return found.exit_status


def judged(sweep: Sweep) -> SuiteResult:
    """Return the result of the suite from what its entries left on disk."""
    asked = entries.read(sweep.directory)
    before = nights.earlier(sweep.directory, asked.name, asked.started)
    found = nights.with_last_good(collecting.collect(asked, sweep), before)
    found = decision.adjusted(found)
    tests, left_out = pooled.pooled(sweep, found)
    joint = [*decision.joint(found), *map(pooled.told, tests), *left_out]
    return SuiteResult(
        format=FORMAT,
        name=asked.name,
        id=sweep.id,
        started=asked.started,
        ended=_ended(sweep, asked.started),
        verdict=decision.verdict(found),
        exit_status=decision.exit_status(found),
        sentence=decision.sentence(asked.name, found),
        entries=tuple(found),
        pooled=tuple(tests),
        joint=tuple(joint),
        versions=collecting.versions(sweep),
        engine_starts=sweep.engine_starts,
        engine_starts_saved=sweep.engine_starts_saved,
        command=sweep.command,
    )


def _ended(sweep: Sweep, started: float) -> float:
    """When the last verdict was written; now, if there is none."""
    files = [point.files.verdict for point in sweep.points]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=time.time())


def _relinked(found: SuiteResult, sweep: Sweep) -> SuiteResult:
    tracked = {point.number: point.tracked for point in sweep.points}
    return replace(
        found,
        entries=tuple(
            replace(entry, mlflow=run_page(run), mlflow_run=run.run_id)
            if (run := tracked.get(entry.number)) is not None
            else entry
            for entry in found.entries
        ),
    )


def _write(directory: Path, found: SuiteResult, tracked: TrackedRun | None = None) -> None:
    """All files; the JSON first, because programs wait for it."""
    results.write(directory, found)
    write_atomic(directory / JUNIT, junit.render(found))
    write_atomic(directory / MARKDOWN, markdown.page(found))
    where = (run_page(tracked), needed_command(tracked.uri)) if tracked is not None else ("", "")
    write_atomic(directory / HTML, page.render(found, directory, *where))


def _send(courier: Courier, left: list[RunDirectory], directory: Path) -> None:
    """Runs that did not arrive when they ended."""
    problems = [each for each in deliver(courier, left) if each.problem and not each.busy]
    if problems:
        runs = "1 run" if len(problems) == 1 else f"{len(problems)} runs"
        warn_pending(directory, problems[0].uri, f"{runs}: {problems[0].problem}")


def _record(
    courier: Courier, directory: Path, sweep: Sweep, found: SuiteResult, out: Console
) -> None:
    """The night's page, in each store that has entries."""
    uris = list(dict.fromkeys(place.uri for place in store.places(sweep)))
    if not uris:
        return
    (directory / store.RECEIPT).unlink(missing_ok=True)
    note = markdown.page(found, linked=False)
    key = entries.read(directory).key or found.id
    files = tuple(directory / name for name in (HTML, MARKDOWN, JUNIT, results.NAME))
    for uri in uris:
        try:
            request = suite_store.summary(found, key, uri, note, files)
            experiment_id, run_id = courier.ask(request, TIMEOUT_S)
        except NotSent as error:
            warn_pending(directory, uri, f"the suite's page: {error}")
            return
        tracked = TrackedRun(uri, request.experiment, experiment_id, run_id)
        _write(directory, found, tracked)
        out.print(Text.assemble(gettext("MLflow: "), style.link(run_page(tracked))))
        if command := needed_command(uri):
            out.print(gettext("  (to view, run: {command})", command=command))
    store.note_recorded(sweep)
