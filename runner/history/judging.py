"""Judges a series of nights: the first bad night, slow declines, and what can't be told yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from runner.history import findings
from runner.history.result import Flips, Kind, Night, Series, State
from runner.history.series import Collected
from runner.stats.change_point import (
    DIGITS,
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
Compare = Callable[[Night, Night, Series], Flips | None]


# Fewer values before the latest ones have no control limits.
FEWEST_BEFORE = 5
# More latest values beyond the control limits than this are a significant drop.
MOST_SUSPECTED = 10


@dataclass(frozen=True)
class Judged:
    """What the values show, by position among the nights that count."""

    state: State
    changes: tuple[Change, ...]
    trend: Trend | None
    bad: Change | None
    limits: tuple[float, float] | None


def judge(collected: Collected) -> Series:
    """Return the series with what its values show."""
    counted = [each for each in collected.nights if each.counted and each.value is not None]
    values = [round(each.value, DIGITS) for each in counted if each.value is not None]
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
    if series.failing and found.state in (State.RECOVERED, State.NO_DROP, State.TOO_FEW):
        series = replace(series, state=State.CHECK)
    elif found.bad is not None:
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
    return _said(series)


def decided(series: Series, compare: Compare) -> Series:
    """Return the series with what the answers of the last good and the first bad night show."""
    if series.good is None or series.bad is None or series.kind is not Kind.ACCURACY:
        return series
    good, bad = (series.nights[number - 1] for number in (series.good, series.bad))
    flips = compare(good, bad, series)
    if flips is None:
        return series
    flips = replace(flips, p_adjusted=min(flips.p * (len(series.values) - 1), 1.0))
    certain = series.state is State.CHECK and flips.p_adjusted <= LEVEL
    return _said(replace(series, flips=flips, state=State.WORSE if certain else series.state))


def _said(series: Series) -> Series:
    return replace(
        series, headline=findings.headline(series), findings=tuple(findings.findings(series))
    )


def _judged(values: Sequence[float], sign: int) -> Judged:
    found = changes(values, sign)
    slide = trend(values, sign)
    slides = slide is not None and slide.p <= LEVEL
    if slides and (not found or gradual(values, found)):
        return Judged(State.DECLINING, (), slide, None, None)
    starts = [0, *(each.first for each in found), len(values)]
    levels = [values[start:end] for start, end in pairwise(starts)]
    recovered = None
    for number, drop in enumerate(found):
        if not drop.worse:
            continue
        rises = any(not each.worse for each in found[number + 1 :])
        if rises and not _lower(levels[number], levels[-1], sign):
            recovered = number
            continue
        # Of an episode, p says that there was one, and not that its end is a drop.
        p = step([*levels[number], *levels[number + 1]], sign)[1] if drop.episode else drop.p
        rose = drop.episode and number > 0 and not found[number - 1].worse
        back = rose and not _lower(levels[number - 1], levels[-1], sign)
        if back and p > LEVEL:
            continue
        state = State.WORSE if p <= LEVEL and not back else State.CHECK
        return Judged(state, found, slide, replace(drop, p=p), control_limits(levels[number]))
    if (suspected := _suspected(levels, sign)) is not None:
        certain = suspected[0].p <= LEVEL  # with an earlier level that is alike
        return Judged(State.WORSE if certain else State.CHECK, found, slide, *suspected)
    if recovered is not None:
        limits = control_limits(levels[recovered])
        return Judged(State.RECOVERED, found, slide, found[recovered], limits)
    state = State.NO_DROP if len(values) >= FEWEST else State.TOO_FEW
    return Judged(state, found, slide, None, control_limits(levels[-1]))


def _beyond(value: float, limits: tuple[float, float], sign: int) -> bool:
    return sign * (value - limits[0 if sign > 0 else 1]) < -ATOL


def _lower(before: Sequence[float], last: Sequence[float], sign: int) -> bool:
    """Whether the last level is worse than an earlier one."""
    limits = control_limits(before)
    if limits is not None and _beyond(median(last), limits, sign):
        return True
    place, p = step([*before, *last], sign)
    # Else it is a few nights at the end that are worse, and not the level.
    return p <= LEVEL and place <= len(before) + len(last) / 2


def _suspected(
    levels: Sequence[Sequence[float]], sign: int
) -> tuple[Change, tuple[float, float]] | None:
    """The change that the longest run of last values beyond the control limits would be.

    The limits are those of the values before them on the same level, and if these are few, also of
    the earlier level that is most like it. So no bad night widens the limits of the next.
    """
    *others, level = levels
    middle = median(level) if level else 0.0
    like = min(others, key=lambda each: abs(median(each) - middle), default=())
    found = None
    for count in range(1, min(MOST_SUSPECTED, len(level) - 1) + 1):
        before, latest = level[:-count], level[-count:]
        if len(before) < FEWEST_BEFORE:
            before = [*like, *before]
        limits = control_limits(before)
        if limits is not None and all(_beyond(each, limits, sign) for each in latest):
            _, p = step([*before, *latest], sign)
            first = sum(map(len, levels)) - count
            levels_of = median(before), median(latest)
            found = Change(first, first, first, *levels_of, worse=True, p=p), limits
    return found
