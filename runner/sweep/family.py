"""The tests of a sweep's points against their baselines or reference runs, corrected together.

Each point's verdict is its own run's: of 20 points without a drop, up to one FAILS by chance.
Holm's correction over all points tells whether it is more than that.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.language import gettext, ngettext
from runner.stats import ALPHA
from runner.stats.several import holm
from runner.status import Status
from runner.sweep.summary import Sweep, SweptPoint


@dataclass(frozen=True)
class Failure:
    """A point whose failed metrics were all tested, and the smallest of their p values.

    `p_holm` is adjusted for all tests of the sweep, `points` is the number of points with tests.
    """

    point: SweptPoint
    p: float
    p_holm: float
    points: int

    @property
    def significant(self) -> bool:
        return self.p_holm <= ALPHA


def failures(sweep: Sweep) -> tuple[Failure, ...]:
    """Return the points that FAILED by a test; empty if fewer than two points were tested.

    A point that FAILED without a test, for example because its value is NaN, is left out.
    """
    tested = [
        (point, metric, metric.p)
        for point in sweep.points
        for metric in point.metrics.values()
        if metric.p is not None
    ]
    points = len({point.number for point, *_ in tested})
    if points < 2:
        return ()
    adjusted = holm([p for *_, p in tested])
    found: dict[int, list[tuple[float, float, SweptPoint]]] = {}
    for (point, metric, p), p_holm in zip(tested, adjusted, strict=True):
        if metric.status is Status.FAILED and not _untested(point):
            found.setdefault(point.number, []).append((p_holm, p, point))
    return tuple(
        Failure(point, p, p_holm, points)
        for p_holm, p, point in (min(own, key=lambda each: each[:2]) for own in found.values())
    )


def headline(sweep: Sweep) -> str:
    """Return `1 of 12 tested points FAILED; it is not significant after …`; empty if none did."""
    found = failures(sweep)
    if not found:
        return ""
    count, points = sum(each.significant for each in found), found[0].points
    if len(found) == 1 and count:
        return gettext(
            "1 of {points} tested points FAILED; it is significant after Holm's correction over "
            "{points} points",
            points=points,
        )
    if len(found) == 1:
        return gettext(
            "1 of {points} tested points FAILED; it is not significant after Holm's correction "
            "over {points} points",
            points=points,
        )
    if not count:
        return gettext(
            "{failed} of {points} tested points FAILED; none of them is significant after Holm's "
            "correction over {points} points",
            failed=len(found),
            points=points,
        )
    return ngettext(
        "{failed} of {points} tested points FAILED; {count} is significant after Holm's "
        "correction over {points} points",
        "{failed} of {points} tested points FAILED; {count} are significant after Holm's "
        "correction over {points} points",
        count,
        failed=len(found),
        points=points,
    )


def failed_lines(sweep: Sweep) -> list[str]:
    """Return a line for each point that FAILED by a test: `p = 0.03; not significant …`."""
    return [_line(each) for each in failures(sweep)]


def _line(failure: Failure) -> str:
    known = {
        "number": failure.point.number,
        "label": failure.point.label,
        "p": failure.p,
        "points": failure.points,
        "p_holm": failure.p_holm,
    }
    if failure.significant:
        return gettext(
            "FAILED {number} ({label}): p = {p:.2g}; significant among {points} points "
            "(Holm: p = {p_holm:.2g})",
            **known,
        )
    return gettext(
        "FAILED {number} ({label}): p = {p:.2g}; not significant among {points} points "
        "(Holm: p = {p_holm:.2g})",
        **known,
    )


def _untested(point: SweptPoint) -> bool:
    """Whether one of the point's metrics FAILED without a test."""
    failed = [each for each in point.metrics.values() if each.status is Status.FAILED]
    return any(each.p is None for each in failed)
