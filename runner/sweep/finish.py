"""Finishes a sweep: compares its points and writes the results to screen, disk and MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from runner.channel.sender import SendSummary, ShareView
from runner.language import gettext
from runner.messages import warn
from runner.present import style
from runner.rundir import RunDirectory, write_atomic
from runner.sweep import markdown, record, screen, store
from runner.sweep.answers import Answers, read_answers
from runner.sweep.comparison import Comparison, compare
from runner.sweep.conclusion import answer
from runner.sweep.figures import Figure, draw
from runner.sweep.summary import MetricId, Sweep, read_sweep
from runner.sweep.sweep_page import render
from runner.sweep.tables import rows, to_csv, to_parquet
from runner.tracking.courier import Courier, warn_pending
from runner.tracking.links import Links
from runner.tracking.pending import deliver, pending
from runner.tracking.records import user
from runner.tracking.sender_process import NotSent
from runner.tracking.tracked import ui_command

HTML, PAGE, CSV, PARQUET = "sweep.html", "sweep.md", "sweep.csv", "sweep.parquet"
FIGURES = "figures"
# Timeout for recording the comparison, and the longest description that MLflow stores.
TIMEOUT_S = 30.0
LONGEST_NOTE = 5000
LONGEST_LINK = 1500


def finish(sweep_directory: Path, out: Console) -> None:
    """Compare the finished points in the directory and write the results.

    Screen and files come before MLflow, so an unreachable server only causes a warning. Repeating
    it replaces the earlier results.

    Raises:
        UserError: if it is not a sweep directory.
    """
    sweep = read_sweep(sweep_directory)
    left = pending(sweep_directory)
    with Courier() as courier:
        if left or store.places(sweep):
            courier.start()
        comparisons = compare(sweep, _answers(sweep))
        screen.show(out, sweep, comparisons)
        figures = _write_figures(sweep)
        table = rows(sweep)
        write_atomic(sweep.directory / CSV, to_csv(table))
        write_atomic(sweep.directory / PARQUET, to_parquet(table))
        _write_pages(sweep, comparisons, figures)
        report = style.file_link(sweep.directory / HTML)
        also = gettext(" (also: {files})", files=gettext(", ").join((PAGE, CSV, PARQUET)))
        out.print(Text.assemble(gettext("report: "), report, also))
        if left:
            _send(courier, left, sweep.directory)
            sweep = read_sweep(sweep_directory)  # what has arrived has a link now
            _write_pages(sweep, comparisons, figures)
        _record(courier, sweep, comparisons, figures, out)


def _write_pages(
    sweep: Sweep,
    comparisons: tuple[Comparison, ...],
    figures: Sequence[Figure],
    links: Sequence[Links] | None = None,
) -> None:
    """sweep.md and sweep.html; the links need no store to be right."""
    if links is None:
        links = [store.shown(place, sweep) for place in store.places(sweep)]
    drawn = {f"{FIGURES}/{figure.name}": figure.told for figure in figures}
    write_atomic(sweep.directory / PAGE, markdown.page(sweep, comparisons, links, drawn))
    write_atomic(sweep.directory / HTML, render(sweep, comparisons, links, figures))


def _send(courier: Courier, left: Iterable[RunDirectory], directory: Path) -> None:
    """Points that did not arrive when they ended, and attempts that others have replaced."""
    problems = [each for each in deliver(courier, left) if each.problem and not each.busy]
    if problems:
        runs = "1 run" if len(problems) == 1 else f"{len(problems)} runs"
        warn_pending(directory, problems[0].uri, f"{runs}: {problems[0].problem}")


def _record(
    courier: Courier,
    sweep: Sweep,
    comparisons: tuple[Comparison, ...],
    figures: Sequence[Figure],
    out: Console,
) -> None:
    """In each experiment that has points: the table's columns, and a run with the comparison."""
    found = store.places(sweep)
    if not found:
        return
    (sweep.directory / store.RECEIPT).unlink(missing_ok=True)
    links = [store.shown(place, sweep) for place in found]
    try:
        for number, place in enumerate(found):
            columns = tuple(store.columns(sweep))
            view = ShareView(place.uri, place.experiment_id, sweep.id, columns)
            links[number] = store.shown(place, sweep, courier.ask(view, TIMEOUT_S))
        _write_pages(sweep, comparisons, figures, links)
        tags = {
            "mlflow.note.content": markdown.page(sweep, comparisons, links)[:LONGEST_NOTE],
            "sweep_directory": str(sweep.directory.resolve()),
            "mlflow.source.name": "python -m runner --multirun",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": user(),
            "verdict": sweep.worst,
            "answer": answer(sweep, comparisons),
        }
        kept = [sweep.directory / name for name in (HTML, PAGE, CSV, PARQUET, record.NAME)]
        files = {str(file.resolve()): "" for file in kept if file.is_file()}
        drawn = [sweep.directory / FIGURES / figure.name for figure in figures]
        files |= {str(file.resolve()): FIGURES for file in drawn}
        for place in found:
            summary = SendSummary(
                uri=place.uri,
                experiment=place.experiment,
                mark=store.SUMMARY,
                key=sweep.id,
                name=store.run_name(sweep),
                metrics=store.metrics_of(sweep),
                tags=tags,
                files=files,
            )
            courier.ask(summary, TIMEOUT_S)
        store.note_recorded(sweep)
    except NotSent as error:
        warn_pending(sweep.directory, place.uri, f"the comparison: {error}")
    for place, each in zip(found, links, strict=True):
        _show_links(out, place, each, several=len(found) > 1)


def _answers(sweep: Sweep) -> dict[MetricId, dict[int, Answers]]:
    found: dict[MetricId, dict[int, Answers]] = {metric: {} for metric in sweep.compared}
    for point in sweep.points:
        try:
            answers = read_answers(point, sweep.compared)
        except (OSError, ValueError) as error:
            warn(f"{point.files.samples}: cannot be read ({_first_line(error)}); not compared")
            continue
        for metric, each in answers.items():
            found[metric][point.number] = each
    return found


def _write_figures(sweep: Sweep) -> list[Figure]:
    """Those of now; what an earlier comparison drew and this one does not is removed."""
    directory = sweep.directory / FIGURES
    directory.mkdir(exist_ok=True)
    drawn = draw(sweep)
    for old in directory.glob("*.png"):
        if old.name not in {figure.name for figure in drawn}:
            old.unlink()
    for figure in drawn:
        write_atomic(directory / figure.name, figure.content)
    return drawn


def _show_links(out: Console, place: store.Place, links: Links, several: bool) -> None:
    head = gettext("MLflow, experiment {experiment}:", experiment=place.experiment)
    out.print(head if several else gettext("MLflow:"))
    pages = (
        (gettext("runs"), links.table),
        (gettext("charts"), links.chart),
        (gettext("compare"), links.compare),
    )
    for name, address in pages:
        # A hundred runs make an address that fills the screen.
        said = address if len(address) <= LONGEST_LINK else gettext("see sweep.md for the link")
        out.print(Text.assemble(f"  {name}{' ' * (8 - cell_len(name))}", style.link(address, said)))
    if not place.uri.startswith("http"):
        command = gettext("(to view, run: {command})", command=ui_command(place.uri))
        out.print(f"  {command}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
