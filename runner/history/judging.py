"""Judges a series of nights: the first bad night, slow declines, and what can't be told yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from runner.history import findings
from runner.history.result import Flips, Kind, Night, Series, State
from runner.history.series import Collected
from runner.stats.change_point import (
    FEWEST,
    LEVEL,
    Change,
    Trend,
    changes,
    control_limits,
    gradual,
    median,
    step,
    trend,
)
from runner.verdict.isclose import ATOL

# Compares two nights question by question; None if their samples can't be read.
Compare = Callable[[Night, Night, Collected], Flips | None]


@dataclass(frozen=True)
class Judged:
    """What the values show, by position among the nights that count."""

    state: State
    changes: tuple[Change, ...]
    trend: Trend | None
    bad: Change | None
    limits: tuple[float, float] | None


def judge(collected: Collected, compare: Compare) -> Series:
    """Return the series with what it shows."""
    counted = [each for each in collected.nights if each.counted and each.value is not None]
    values = [each.value for each in counted if each.value is not None]
    found = _judged(values, 1 if collected.higher_is_better else -1)
    series = Series(
        **vars(collected),
        state=found.state,
        headline="",
        findings=(),
        good=None,
        bad=None,
        between=None,
        before=None,
        after=None,
        p=None,
        limits=found.limits,
        changes=found.changes,
        trend=found.trend,
        flips=None,
        commands=(),
    )
    if found.bad is not None:
        good, bad = counted[found.bad.first - 1], counted[found.bad.first]
        series = replace(
            series,
            good=good.number,
            bad=bad.number,
            between=(counted[found.bad.earliest].number, counted[found.bad.latest].number),
            before=found.bad.before,
            after=found.bad.after,
            p=found.bad.p,
        )
        flips = compare(good, bad, collected) if collected.kind is Kind.ACCURACY else None
        if flips is not None:
            flips = replace(flips, p_adjusted=min(flips.p * (len(values) - 1), 1.0))
            certain = found.state is State.CHECK and flips.p_adjusted <= LEVEL
            series = replace(series, flips=flips, state=State.WORSE if certain else found.state)
    return replace(
        series, headline=findings.headline(series), findings=tuple(findings.findings(series))
    )


def _judged(values: Sequence[float], sign: int) -> Judged:
    found = changes(values, sign)
    slide = trend(values, sign)
    slides = slide is not None and slide.p <= LEVEL
    drops = [each for each in found if each.worse]
    if slides and (not found or gradual(values, found)):
        return Judged(State.DECLINING, (), slide, None, None)
    if drops:
        bad = drops[-1]
        base = _level(values, found, bad)
        better = [each for each in found if each.first > bad.first]
        regained = any(sign * (each.after - (bad.before + bad.after) / 2) > 0 for each in better)
        state = State.RECOVERED if regained else State.WORSE
        return Judged(state, found, slide, bad, control_limits(base))
    start = found[-1].first if found else 0
    level = values[start:]
    limits = control_limits(level[:-1])
    if limits is not None and sign * (level[-1] - limits[0 if sign > 0 else 1]) < -ATOL:
        return Judged(State.CHECK, found, slide, _suspected(values, start, limits, sign), limits)
    state = State.STEADY if len(values) >= FEWEST else State.TOO_FEW
    return Judged(state, found, slide, None, control_limits(level) or limits)


def _level(values: Sequence[float], found: Sequence[Change], bad: Change) -> Sequence[float]:
    """The values of the level before the change."""
    start = max((each.first for each in found if each.first < bad.first), default=0)
    return values[start : bad.first]


def _suspected(
    values: Sequence[float], start: int, limits: tuple[float, float], sign: int
) -> Change:
    """The change that the last values beyond the control limits would be."""

    def beyond(value: float) -> bool:
        return sign * (value - limits[0 if sign > 0 else 1]) < -ATOL

    count = len(list(takewhile(beyond, reversed(values[start:]))))
    first = len(values) - count
    _, p = step(values[start:], sign)
    return Change(first, first, first, median(values[start:first]), median(values[first:]), True, p)
