"""Compares every point of a sweep with one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.compare.comparison import Comparison, compare
from runner.compare.comparison_findings import leading_scores
from runner.compare.comparison_page import NAME, render, write
from runner.compare.headline import headline
from runner.compare.sides import Side, read_side
from runner.errors import UserError
from runner.language import gettext, ngettext
from runner.rundir import write_atomic, write_json
from runner.status import EXIT_STATUS, Status
from runner.sweep import record
from runner.sweep.summary import read_sweep

# The exit status is that of the worst point: 3, then 2, then 4.
ORDER = (Status.FAILED, Status.ERROR, Status.INCONCLUSIVE)
# Points listed in a headline.
NAMED = 4


@dataclass(frozen=True)
class ComparedPoint:
    """One compared point; `page` is the path of its comparison, empty if it was not compared."""

    number: int
    label: str
    status: Status
    said: str
    first: float | None
    second: float | None
    better: int
    worse: int
    pairs: int
    p99: float | None
    page: str


@dataclass(frozen=True)
class ComparedSweep:
    """All points compared with the run; `status` is the worst of theirs."""

    sweep: str
    reference: str
    status: Status
    exit_status: int
    points: tuple[ComparedPoint, ...]

    @property
    def headline(self) -> str:
        """Return `1 of 3 points is worse than A: tp=2`, or a sentence without worse points."""
        worse = [point.label for point in self.points if point.status is Status.FAILED]
        points = len(self.points)
        if worse:
            named = gettext(", ").join(worse[:NAMED]) + (" …" if len(worse) > NAMED else "")
            return ngettext(
                "{count} of {points} points is worse than A: {names}",
                "{count} of {points} points are worse than A: {names}",
                len(worse),
                points=points,
                names=named,
            )
        passed = sum(point.status is Status.PASSED for point in self.points)
        if passed == points:
            return gettext("None of {points} points is worse than A", points=points)
        return gettext(
            "No worse than A: {passed} of {points} points; the others are inconclusive",
            passed=passed,
            points=points,
        )

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of points by verdict, PASSED first."""
        states = [point.status for point in self.points]
        return {state.value: states.count(state) for state in Status if state in states}


def is_sweep(directory: Path) -> bool:
    return record.read(directory) is not None


def compare_sweep(
    reference: Side,
    name: str,
    directory: Path,
    output: Path,
    margin: float,
    command: str,
    done: Callable[[ComparedPoint], None],
) -> ComparedSweep:
    """Compare each point and write its page and the table of all points to `output`."""
    points = []
    for point in read_sweep(directory).points:
        try:
            side = read_side(point.label, point.files.path)
            found = compare(reference, side, margin)
        except UserError as error:
            compared = _not_compared(point.number, point.label, f"{point.state}: {error}")
        else:
            write(output / str(point.number), found, command)
            compared = _compared(point.number, point.label, found)
        points.append(compared)
        done(compared)
    status = _worst([point.status for point in points])
    result = ComparedSweep(name, reference.name, status, EXIT_STATUS[status], tuple(points))
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / f"{NAME}.json", result)
    for ending in ("md", "html"):
        page = render(f"compare_sweep.{ending}.j2", compared=result, command=command)
        write_atomic(output / f"{NAME}.{ending}", page)
    return result


def _compared(number: int, label: str, found: Comparison) -> ComparedPoint:
    leading = leading_scores(found)
    row = max(leading, key=lambda each: each.drop) if leading else None
    return ComparedPoint(
        number=number,
        label=label,
        status=found.ruling.status,
        said=headline(found),
        first=row.first if row is not None else None,
        second=row.second if row is not None else None,
        better=row.better if row is not None else 0,
        worse=row.worse if row is not None else 0,
        pairs=found.pairs,
        p99=found.numerics.tokens.p99 if found.numerics.tokens is not None else None,
        page=f"{number}/{NAME}.html",
    )


def _not_compared(number: int, label: str, reason: str) -> ComparedPoint:
    return ComparedPoint(number, label, Status.INCONCLUSIVE, reason, None, None, 0, 0, 0, None, "")


def _worst(statuses: Sequence[Status]) -> Status:
    if not statuses:
        return Status.INCONCLUSIVE
    return next((status for status in ORDER if status in statuses), Status.PASSED)
