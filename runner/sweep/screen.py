"""Terminal output of a sweep: one row per point, findings per axis."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.language import gettext, ngettext
from runner.present import style
from runner.present.formats import number, signed
from runner.status import Status
from runner.sweep.axis_findings import axis_lines
from runner.sweep.comparison import Comparison
from runner.sweep.conclusion import answer, counted_verdicts
from runner.sweep.family import failed_lines, headline
from runner.sweep.releases import releases
from runner.sweep.summary import MetricId, Sweep, SweptPoint

WIDTH, WIDEST_WORD = 100, 24
REASONS, LONGEST_REASON, NUMBERS = 12, 300, 12
# Faster starts mean that the point used the engine of an earlier point.
SHARED_BELOW_S = 0.5
_EXPLAINED_BY_NUMBERS = (Status.PASSED.value, Status.FAILED.value)


def show(out: Console, sweep: Sweep, comparisons: tuple[Comparison, ...]) -> None:
    """Print the result, the verdicts, the effect of each axis and the points."""
    out.print(f"\n{answer(sweep, comparisons)}")
    verdicts = Text(counted_verdicts(sweep))
    for state in sweep.counts():
        verdicts.highlight_words([state], style.verdict(state).style)
    out.print(verdicts)
    if failed := headline(sweep):
        out.print(failed)
    for head, *below in findings(sweep, comparisons):
        out.print(head)
        for line in below:
            out.print(f"  {line}")
    out.print(_table(sweep), soft_wrap=False, width=min(out.width, WIDTH))
    for line in [*failed_lines(sweep)[:REASONS], *unexplained(sweep)[:REASONS]]:
        out.print(line)
    if sweep.engine_starts:
        out.print(engines(sweep))


def findings(sweep: Sweep, comparisons: tuple[Comparison, ...]) -> list[list[str]]:
    """Return, for each metric and axis, a line and its details; then the versions that differ.

    If the tasks are swept over, no metric spans that axis and it is omitted.
    """
    effects = [
        axis_lines(sweep, comparisons, axis, metric)
        for metric in sweep.compared
        for axis in sweep.axes
        if len(sweep.compared) == 1 or sweep.spans(metric, axis)
    ]
    versions = releases(sweep)
    return [*effects, [gettext("Versions that differ:"), *versions]] if versions else effects


def engines(sweep: Sweep) -> str:
    """Return `4 engine starts, 2 saved`."""
    starts = ngettext("{count} engine start", "{count} engine starts", sweep.engine_starts)
    saved = sweep.engine_starts_saved
    return gettext("{starts}, {saved} saved", starts=starts, saved=saved) if saved else starts


def unexplained(sweep: Sweep) -> list[str]:
    """Return the reasons of points that neither passed nor failed, one line per reason."""
    by_reason: dict[tuple[str, str], list[SweptPoint]] = {}
    for point in sweep.points:
        if point.state not in _EXPLAINED_BY_NUMBERS:
            reason = " ".join(point.reason.split())[:LONGEST_REASON]
            by_reason.setdefault((point.state, reason), []).append(point)
    return [_unexplained(state, reason, these) for (state, reason), these in by_reason.items()]


def _unexplained(state: str, reason: str, points: list[SweptPoint]) -> str:
    if len(points) == 1:
        return gettext(
            "{state} {number} ({label}): {reason}",
            state=state,
            number=points[0].number,
            label=points[0].label,
            reason=reason,
        )
    numbers = [str(point.number) for point in points[:NUMBERS]]
    return gettext(
        "{state} {count} points ({numbers}): {reason}",
        state=state,
        count=len(points),
        numbers=gettext(", ").join([*numbers, *(["…"] if len(points) > NUMBERS else [])]),
        reason=reason,
    )


def engine_start(point: SweptPoint) -> str:
    """Return the seconds, or `shared` if an earlier point started the engine."""
    seconds = point.seconds("start_engine_s")
    if seconds is None:
        return ""
    return gettext("shared") if seconds < SHARED_BELOW_S else f"{seconds:.0f} s"


def evaluation(point: SweptPoint) -> str:
    seconds = point.seconds("evaluate_s")
    return "" if seconds is None else f"{seconds:.0f} s"


def value_of(point: SweptPoint, metric: MetricId) -> tuple[str, str]:
    """Return `0.893 ± 0.025` and the difference to the baseline; empty if not measured."""
    found = point.metrics.get(metric)
    if found is None or found.value is None:
        return "", ""
    pm = "" if found.stderr is None else f" ± {number(found.stderr, 3)}"
    return f"{number(found.value, 3)}{pm}", signed(found.difference, 3)


def _number(point: SweptPoint) -> str | Text:
    """The point number, linked to its report."""
    report = point.files.report_html
    return style.file_link(report, str(point.number)) if report.is_file() else str(point.number)


def _table(sweep: Sweep) -> Table:
    several = len(sweep.compared) > 1
    table = Table(box=SIMPLE_HEAD)
    table.add_column("", justify="right", no_wrap=True)
    words = [word for point in sweep.points for word in point.label.split()]
    widest = min(max(map(len, words), default=0), WIDEST_WORD)
    table.add_column(gettext("point"), overflow="fold", min_width=widest)
    states = max((len(point.state) for point in sweep.points), default=0)
    table.add_column(gettext("verdict"), no_wrap=True, min_width=states)
    if several:
        table.add_column(gettext("metric"), overflow="fold")
    table.add_column(gettext("value"), justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column(gettext("diff"), justify="right", no_wrap=True)
    table.add_column(gettext("time"), justify="right", no_wrap=True)
    table.add_column(gettext("start"), justify="right", no_wrap=True)
    for point in sweep.points:
        for row, metric in enumerate(sweep.compared_in(point)):
            first = row == 0
            value, difference = value_of(point, metric) if metric is not None else ("", "")
            found = point.measured(metric) if metric is not None else None
            table.add_row(
                _number(point) if first else "",
                point.label if first else "",
                style.verdict(point.state) if first else "",
                *([metric.name if metric is not None else ""] if several else []),
                value,
                found.count if found is not None else "",
                difference,
                evaluation(point) if first else "",
                engine_start(point) if first else "",
            )
    return table
