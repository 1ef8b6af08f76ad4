"""The end of a sweep: what its points say together, on the screen, on disk, in MLflow."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from rich.console import Console

from runner.rundir import write_atomic
from runner.sweep import record, screen, store
from runner.sweep.answers import Answers, read_answers
from runner.sweep.comparison import compare
from runner.sweep.figures import draw
from runner.sweep.links import Links
from runner.sweep.page import page
from runner.sweep.summary import MetricId, Sweep, read_sweep
from runner.sweep.tables import rows, to_csv, to_parquet

FIGURES = "figures"
LONGEST_LINK = 1500


def finish(sweep_directory: Path, out: Console) -> None:
    """Compare the points that lie in the directory, however many are done.

    The table is shown first and the files are written before MLflow is asked for anything: a store
    that is away costs a warning. Done again, it replaces what it left before.

    Raises:
        UserError: if it is not the directory of a sweep.
    """
    sweep = read_sweep(sweep_directory)
    comparisons = compare(sweep, _answers(sweep))
    screen.show(out, sweep, comparisons)
    figures = _write_figures(sweep)
    table = rows(sweep)
    csv, parquet = sweep.directory / "sweep.csv", sweep.directory / "sweep.parquet"
    write_atomic(csv, to_csv(table))
    write_atomic(parquet, to_parquet(table))
    markdown = sweep.directory / "sweep.md"
    paths = [f"{FIGURES}/{file.name}" for file in figures]
    found = store.places(sweep)

    def describe(links: list[Links]) -> None:
        write_atomic(markdown, page(sweep, comparisons, links, paths))

    describe([store.shown(place, sweep) for place in found])
    shared = [_shared(place, sweep) for place in found]
    describe([links for links, _ in shared])
    out.print(f"comparison: {markdown}")
    note = page(sweep, comparisons, [links for links, _ in shared])
    kept = [markdown, csv, parquet, sweep.directory / record.NAME, *figures]
    for place, (links, reached) in zip(found, shared, strict=True):
        if reached:
            _record(place, sweep, note, [file for file in kept if file.is_file()])
        _show_links(out, place, links, several=len(found) > 1)


def _answers(sweep: Sweep) -> dict[MetricId, dict[int, Answers]]:
    found: dict[MetricId, dict[int, Answers]] = {metric: {} for metric in sweep.compared}
    for point in sweep.points:
        try:
            answers = read_answers(point, sweep.compared)
        except (OSError, ValueError) as error:
            _warn(f"{point.files.samples}: not readable ({_first_line(error)}); not compared")
            continue
        for metric, each in answers.items():
            found[metric][point.number] = each
    return found


def _write_figures(sweep: Sweep) -> list[Path]:
    """Those of now; what an earlier comparison drew and this one does not is removed."""
    directory = sweep.directory / FIGURES
    directory.mkdir(exist_ok=True)
    drawn = draw(sweep)
    for old in directory.glob("*.png"):
        if old.name not in drawn:
            old.unlink()
    for name, content in drawn.items():
        write_atomic(directory / name, content)
    return [directory / name for name in drawn]


def _shared(place: store.Place, sweep: Sweep) -> tuple[Links, bool]:
    """The links, and whether the store has answered: one that is away is asked once."""
    try:
        return store.shown(place, sweep, store.share(place, sweep)), True
    except Exception as error:  # any failure of the store or the network below it
        _not_recorded(place, sweep, error)
        return store.shown(place, sweep), False


def _record(place: store.Place, sweep: Sweep, note: str, files: list[Path]) -> None:
    try:
        store.record(place, sweep, note, files)
    except Exception as error:  # any failure of the store or the network below it
        _not_recorded(place, sweep, error)


def _not_recorded(place: store.Place, sweep: Sweep, error: Exception) -> None:
    reason = _first_line(error)
    _warn(f"the comparison is not in MLflow ({place.uri}): {reason}; all is in {sweep.directory}")


def _show_links(out: Console, place: store.Place, links: Links, several: bool) -> None:
    out.print(f"MLflow, experiment {place.experiment}:" if several else "MLflow:")
    for name, link in (("runs", links.table), ("charts", links.chart), ("compare", links.compare)):
        # A hundred runs make an address that fills the screen.
        out.print(f"  {name:8}{link if len(link) <= LONGEST_LINK else 'the link is in sweep.md'}")
    if not place.uri.startswith("http"):
        served = shlex.join(
            [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", place.uri]
        )
        out.print(f"  (served by: {served})")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
