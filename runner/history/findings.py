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
    if series.bad is not None and series.before is not None and series.after is not None:
        bad = night(series, series.bad)
        place = f"{bad.when} (night {bad.number} of {count})"
        moved = f"{value(series, series.before)} → {value(series, series.after)}"
        amount = f" ({difference(series)})" if difference(series) else ""
        p = p_text(series.p) if series.p is not None else ""
        if series.state is State.CHECK:
            return f"Check {place}: {moved}{amount}, outside the control limits; {p}, not certain"
        if series.flips is not None and (series.p is None or series.p > LEVEL):
            p = f"{p_text(series.flips.p_adjusted)} by the changed answers"
        recovered = ", recovered since" if series.state is State.RECOVERED else ""
        return f"First bad night: {place}: {moved}{amount}, {p}{recovered}"
    if series.state is State.DECLINING and series.trend is not None:
        whole = series.trend.slope * (count - 1)
        return (
            f"Slow decline over {count} nights: about {value(series, abs(whole))} in all, "
            f"{p_text(series.trend.p)}; there is no single bad night"
        )
    values = series.values
    if series.state is State.TOO_FEW:
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
        counted = [each for each in series.nights if each.counted]
        alike = len([each for each in counted if each.number >= bad])
        more = further(len(counted), alike)
        nights = "one more such night makes" if more == 1 else f"{more} more such nights make"
        yield f"{alike} of {len(counted)} nights alone can be chance; {nights} it significant"
    yield _versions(series, good, bad)
    if (flips := series.flips) is not None:
        yield (
            f"Nights {good} and {bad} answered {flips.changed} of {flips.pairs} questions "
            f"differently: {flips.worse} scores are worse, {flips.better} better "
            f"({p_text(flips.p)}; {p_text(flips.p_adjusted)} for any of the nights)"
        )
    first = night(series, bad)
    if first.tolerated is not None and first.value is not None:
        low, high = first.tolerated
        inside = (low is None or first.value >= low) and (high is None or first.value <= high)
        yield f"Its value is {'within' if inside else 'outside'} the tolerated range of its verdict"


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
    return f"Between nights {good} and {bad} changed: {', '.join(said[:VERSIONS])}{more}"


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
    also = f"; {other} other trend{'s are' if other != 1 else ' is'} worse" if other else ""
    if len(worse) == 1:
        only = f"{worse[0].model} {worse[0].task}: {worse[0].headline}"
        return f"{only}{also}"
    if worse:
        return f"Accuracy dropped in {len(worse)} of {len(whole)} series{also}"
    if check:
        return f"Accuracy may have dropped in {len(check)} of {len(whole)} series{also}"
    if whole and all(each.state is State.TOO_FEW for each in whole):
        return f"Too few nights to find a drop{also}"
    return f"No drop of accuracy in {len(whole)} series{also}"
