"""Sentences about a series of nights."""

from __future__ import annotations

from collections.abc import Iterator

from runner.history.result import History, Kind, Night, Series, State
from runner.present.formats import cut
from runner.stats.change_point import FEWEST, LEVEL, further

# More changed versions than this are counted.
VERSIONS = 6


def value(series: Series, number: float) -> str:
    """Return a value of the series as text."""
    if series.kind is Kind.DEGENERATE:
        return f"{100 * number:.3g} %"
    if series.kind is Kind.ACCURACY and 0 <= abs(number) <= 1:
        return f"{number:.4f}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def difference(series: Series) -> str:
    """Return `−4.3 points` or `−12 %`; empty without a change."""
    before, after = series.before, series.after
    if before is None or after is None:
        return ""
    if series.kind in (Kind.ACCURACY, Kind.DEGENERATE) and abs(before) <= 1 and abs(after) <= 1:
        return f"{100 * (after - before):+.1f} points".replace("-", "−")
    return f"{100 * (after / before - 1):+.0f} %".replace("-", "−") if before else ""


def p_text(p: float) -> str:
    """Return `p = 0.003`, with the smallest p value that permutations can show as a bound."""
    return "p ≤ 0.0001" if p <= 1.01e-4 else f"p = {p:.2g}"


def night(series: Series, number: int) -> Night:
    """Return the night with a number."""
    return series.nights[number - 1]


def headline(series: Series) -> str:
    """Return the result in a sentence."""
    count = len(series.nights)
    if series.state is State.CHECK and series.bad is None:
        return _failing(series)
    if series.bad is not None and series.before is not None and series.after is not None:
        bad = night(series, series.bad)
        place = f"{bad.when} (night {bad.number} of {count})"
        moved = f"{value(series, series.before)} → {value(series, series.after)}"
        amount = f" ({difference(series)})" if difference(series) else ""
        p = p_text(series.p) if series.p is not None else ""
        if series.state is State.CHECK and series.p is not None and series.p <= LEVEL:
            return f"An improvement ended on {place}: {moved}{amount}, {p}"
        if series.state is State.CHECK:
            verb = "dropped" if series.higher_is_better else "risen"
            return f"May have {verb} on {place}: {moved}{amount}; {p}, not certain"
        if series.flips is not None and (series.p is None or series.p > LEVEL):
            p = f"{p_text(series.flips.p_adjusted)} by the changed answers"
        recovered = ", recovered since" if series.state is State.RECOVERED else ""
        verb = "Dropped" if series.higher_is_better else "Rose"
        return f"{verb} on {place}: {moved}{amount}, {p}{recovered}"
    if series.state is State.DECLINING and series.trend is not None:
        whole = series.trend.slope * (count - 1)
        return (
            f"Declined slowly over {count} nights: about {value(series, abs(whole))} in all, "
            f"{p_text(series.trend.p)}; there is no single bad night"
        )
    return _unchanged(series)


def _failing(series: Series) -> str:
    count = series.failing
    latest = "The latest night has" if count == 1 else f"The latest {count} nights have"
    verdicts = ", ".join(dict.fromkeys(each.verdict for each in series.nights[-count:]))
    dropped = any(each.worse for each in series.changes)
    before = "a drop that later recovered" if dropped else _inside(_unchanged(series))
    return f"{latest} no result ({verdicts}). Before: {before}"


def _inside(sentence: str) -> str:
    """A sentence as a part of another."""
    return sentence[0].lower() + sentence[1:]


def _unchanged(series: Series) -> str:
    values = series.values
    if len(values) < FEWEST:
        return (
            f"{len(values)} night{'' if len(values) == 1 else 's'} with a value: at least {FEWEST} "
            f"are needed to find a change at the {LEVEL:.0%} level"
        )
    if len(set(values)) == 1:
        return f"{value(series, values[0])} in all {len(values)} nights"
    return f"No drop in {len(values)} nights: {value(series, min(values))} to " + value(
        series, max(values)
    )


def findings(series: Series) -> Iterator[str]:
    """Yield further sentences."""
    if series.bad is not None and series.good is not None:
        yield from _change(series, series.good, series.bad)
    for each in series.changes:
        counted = [night for night in series.nights if night.counted]
        start = counted[each.first]
        if start.number != series.bad:
            what = "drop" if each.worse else "rise"
            yield (
                f"A {what} on {start.when} (night {start.number}): "
                f"{value(series, each.before)} → {value(series, each.after)}, {p_text(each.p)}"
            )
    missing = [each for each in series.nights if not each.counted]
    if missing:
        named = ", ".join(f"{each.number} ({each.verdict})" for each in missing[:VERSIONS])
        more = f" and {len(missing) - VERSIONS} more" if len(missing) > VERSIONS else ""
        noun = "night" if len(missing) == 1 else "nights"
        yield f"Not counted, without a complete result: {noun} {named}{more}"


def _change(series: Series, good: int, bad: int) -> Iterator[str]:
    if series.between is not None and series.between[0] < series.between[1]:
        earliest, latest = series.between
        yield f"The first bad night is one of nights {earliest} to {latest} (95 %)"
    values = [each.value for each in series.nights[:good] if each.counted]
    same = next((n for n, each in enumerate(reversed(values)) if each != values[-1]), len(values))
    if same > 2:
        yield f"The {same} nights before it have exactly the same value"
    if series.state is State.CHECK:
        yield _undecided(series, bad)
    yield _versions(series, good, bad)
    if (flips := series.flips) is not None:
        yield (
            f"{flips.changed} of {flips.pairs} answers differ between nights {good} and {bad}: "
            f"{flips.worse} scores of this series are worse, {flips.better} better "
            f"({p_text(flips.p)}; "
            f"{p_text(flips.p_adjusted)} corrected for the number of nights)"
        )
    first = night(series, bad)
    if first.tolerated is not None and first.value is not None:
        low, high = first.tolerated
        inside = (low is None or first.value >= low) and (high is None or first.value <= high)
        yield f"Night {bad} is {'within' if inside else 'outside'} its tolerated range"


def _undecided(series: Series, bad: int) -> str:
    """Why a drop is not certain, and what would decide."""
    counted = [each for each in series.nights if each.counted]
    starts = [counted[each.first].number for each in series.changes]
    if bad in starts:
        place = starts.index(bad)
        if place == 0 or series.changes[place - 1].worse:
            return "It begins a series of low nights that ended; by itself it may be chance"
        rise = f"the rise on night {starts[place - 1]}"
        if series.p is not None and series.p <= LEVEL:
            return f"The values are back at the level before {rise}"
        return f"It ends {rise}, and may be chance"
    alike = [each for each in counted if each.number >= bad]
    level = [each for each in counted if each.number >= max(starts, default=1)]
    if len(level) == len(alike) or len(level) - len(alike) < 2:
        level = counted
    more = further(len(level), len(alike))
    low = "low" if series.higher_is_better else "high"
    nights = f"{len(alike)} {low} night{'' if len(alike) == 1 else 's'} of {len(level)}"
    return f"{nights} may be chance; {more} more would be significant"


def _versions(series: Series, good: int, bad: int) -> str:
    """What changed from the last good night to the first bad one, also in between."""
    changed: dict[str, tuple[str, str]] = {}
    for each in series.nights[good:bad]:
        for version in each.changed:
            first = changed.get(version.name, (version.before, ""))[0]
            changed[version.name] = (first, version.after)
    said = [
        f"{name} {cut(before or 'unknown', 24)} → {cut(after or 'unknown', 24)}"
        for name, (before, after) in changed.items()
        if before != after
    ]
    if not said:
        return f"No recorded version, file or prompt changed between nights {good} and {bad}"
    more = f" and {len(said) - VERSIONS} more" if len(said) > VERSIONS else ""
    return f"Changed between nights {good} and {bad}: {', '.join(said[:VERSIONS])}{more}"


def summary(history: History) -> str:
    """Return the result of all series in a sentence."""
    worse = history.accuracy(State.WORSE, State.DECLINING)
    check = history.accuracy(State.CHECK)
    whole = history.accuracy(*State)
    other = len(
        [
            each
            for each in history.series
            if each.kind is not Kind.ACCURACY and each.state in (State.WORSE, State.DECLINING)
        ]
    )
    noun = "measurement" if other == 1 else "measurements"
    also = f"; {other} other {noun} (throughput, …) got worse" if other else ""
    if len(worse) == 1:
        return f"{worse[0].model}/{worse[0].task} {_inside(worse[0].headline)}{also}"
    if worse:
        return f"Accuracy dropped in {len(worse)} of {len(whole)} series{also}"
    if len(check) == 1:
        return f"{check[0].model}/{check[0].task}: {check[0].headline}{also}"
    if check:
        of = f"{len(check)} of {len(whole)} series"
        return f"Accuracy may have dropped, or is unknown, in {of}{also}"
    if not whole:
        return f"No series of accuracy was asked for{also}"
    few = len(history.accuracy(State.TOO_FEW))
    if few == len(whole):
        return f"Too few nights to find a drop{also}"
    if few:
        has = "has" if few == 1 else "have"
        return (
            f"No drop of accuracy in {len(whole) - few} of {len(whole)} series; {few} {has} too "
            f"few nights{also}"
        )
    return f"No drop of accuracy in {len(whole)} series{also}"
