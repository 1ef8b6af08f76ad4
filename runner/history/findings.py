"""Sentences about a series of nights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.history.result import Kind, Night, Series, State
from runner.history.versions import shown, unknown
from runner.language import gettext, ngettext
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
        points = f"{100 * (after - before):+.1f}".replace("-", "−")
        return gettext("{number} points", number=points)
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
        return _moved(series, night(series, series.bad), series.before, series.after)
    if series.state is State.DECLINING and series.trend is not None:
        return gettext(
            "Declined slowly over {count} nights: about {amount} in all, {p}; there is no single "
            "bad night",
            count=count,
            amount=value(series, abs(series.trend.slope * (count - 1))),
            p=p_text(series.trend.p),
        )
    return _unchanged(series)


def _moved(series: Series, bad: Night, before: float, after: float) -> str:
    """The sentence about a series with a first bad night, also one that is only suspected."""
    change = f"{value(series, before)} → {value(series, after)}"
    if amount := difference(series):
        change = gettext("{change} ({difference})", change=change, difference=amount)
    told = {
        "place": gettext(
            "{date} (night {night} of {count})",
            date=bad.when,
            night=bad.number,
            count=len(series.nights),
        ),
        "change": change,
        "p": p_text(series.p) if series.p is not None else "",
    }
    if series.state is State.CHECK and series.p is not None and series.p <= LEVEL:
        return gettext("An improvement ended on {place}: {change}, {p}", **told)
    if series.state is State.CHECK:
        if series.higher_is_better:
            return gettext("May have dropped on {place}: {change}; {p}, not certain", **told)
        return gettext("May have risen on {place}: {change}; {p}, not certain", **told)
    if series.flips is not None and (series.p is None or series.p > LEVEL):
        told["p"] = gettext("{p} by the changed answers", p=p_text(series.flips.p_adjusted))
    if series.state is State.RECOVERED:
        if series.higher_is_better:
            return gettext("Dropped on {place}: {change}, {p}, recovered since", **told)
        return gettext("Rose on {place}: {change}, {p}, recovered since", **told)
    if series.higher_is_better:
        return gettext("Dropped on {place}: {change}, {p}", **told)
    return gettext("Rose on {place}: {change}, {p}", **told)


def _failing(series: Series) -> str:
    count = series.failing
    verdicts = dict.fromkeys(each.verdict for each in series.nights[-count:])
    if any(each.worse for each in series.changes):
        before = gettext("a drop that later recovered")
    else:
        before = inside(_unchanged(series))
    return ngettext(
        "The latest night has no result ({verdicts}). Before: {before}",
        "The latest {count} nights have no result ({verdicts}). Before: {before}",
        count,
        verdicts=gettext(", ").join(verdicts),
        before=before,
    )


def inside(sentence: str) -> str:
    """A sentence as a part of another; Chinese has no capitals, so it stays as it is."""
    return sentence[0].lower() + sentence[1:]


def _unchanged(series: Series) -> str:
    values = series.values
    if len(values) < FEWEST:
        return ngettext(
            "{count} night with a value: at least {fewest} are needed to find a change at the "
            "{level:.0%} level",
            "{count} nights with a value: at least {fewest} are needed to find a change at the "
            "{level:.0%} level",
            len(values),
            fewest=FEWEST,
            level=LEVEL,
        )
    if len(set(values)) == 1:
        return gettext(
            "{value} in all {count} nights", value=value(series, values[0]), count=len(values)
        )
    return gettext(
        "No drop in {count} nights: {low} to {high}",
        count=len(values),
        low=value(series, min(values)),
        high=value(series, max(values)),
    )


def findings(series: Series) -> Iterator[str]:
    """Yield further sentences."""
    if series.bad is not None and series.good is not None:
        yield from _change(series, series.good, series.bad)
    for each in series.changes:
        counted = [night for night in series.nights if night.counted]
        start = counted[each.first]
        if start.number != series.bad:
            told = {
                "date": start.when,
                "night": start.number,
                "before": value(series, each.before),
                "after": value(series, each.after),
                "p": p_text(each.p),
            }
            if each.worse:
                yield gettext("A drop on {date} (night {night}): {before} → {after}, {p}", **told)
            else:
                yield gettext("A rise on {date} (night {night}): {before} → {after}, {p}", **told)
    missing = [each for each in series.nights if not each.counted]
    if missing:
        yield _not_counted(missing)


def _not_counted(missing: Sequence[Night]) -> str:
    nights = gettext(", ").join(
        gettext("{night} ({verdict})", night=each.number, verdict=each.verdict)
        for each in missing[:VERSIONS]
    )
    if len(missing) > VERSIONS:
        return gettext(
            "Not counted, without a complete result: nights {nights} and {count} more",
            nights=nights,
            count=len(missing) - VERSIONS,
        )
    return ngettext(
        "Not counted, without a complete result: night {nights}",
        "Not counted, without a complete result: nights {nights}",
        len(missing),
        nights=nights,
    )


def _change(series: Series, good: int, bad: int) -> Iterator[str]:
    if series.between is not None and series.between[0] < series.between[1]:
        earliest, latest = series.between
        yield gettext(
            "The first bad night is one of nights {earliest} to {latest} (95 %)",
            earliest=earliest,
            latest=latest,
        )
    values = [each.value for each in series.nights[:good] if each.counted]
    same = next((n for n, each in enumerate(reversed(values)) if each != values[-1]), len(values))
    if same > 2:
        yield gettext("The {count} nights before it have exactly the same value", count=same)
    if series.state is State.CHECK:
        yield _undecided(series, bad)
    yield _versions(series, good, bad)
    if (flips := series.flips) is not None:
        yield gettext(
            "{changed} of {pairs} answers differ between nights {good} and {bad}: {worse} scores "
            "of this series are worse, {better} better ({p}; {adjusted} corrected for the number "
            "of nights)",
            changed=flips.changed,
            pairs=flips.pairs,
            good=good,
            bad=bad,
            worse=flips.worse,
            better=flips.better,
            p=p_text(flips.p),
            adjusted=p_text(flips.p_adjusted),
        )
    first = night(series, bad)
    if first.tolerated is not None and first.value is not None:
        low, high = first.tolerated
        within = (low is None or first.value >= low) and (high is None or first.value <= high)
        if within:
            yield gettext("Night {night} is within its tolerated range", night=bad)
        else:
            yield gettext("Night {night} is outside its tolerated range", night=bad)


def _undecided(series: Series, bad: int) -> str:
    """Why a drop is not certain, and what would decide."""
    counted = [each for each in series.nights if each.counted]
    starts = [counted[each.first].number for each in series.changes]
    if bad in starts:
        place = starts.index(bad)
        if place == 0 or series.changes[place - 1].worse:
            return gettext(
                "It begins a series of low nights that ended; by itself it may be chance"
            )
        rise = starts[place - 1]
        if series.p is not None and series.p <= LEVEL:
            return gettext(
                "The values are back at the level before the rise on night {night}", night=rise
            )
        return gettext("It ends the rise on night {night}, and may be chance", night=rise)
    alike = [each for each in counted if each.number >= bad]
    level = [each for each in counted if each.number >= max(starts, default=1)]
    if len(level) == len(alike) or len(level) - len(alike) < 2:
        level = counted
    more = further(len(level), len(alike))
    if series.higher_is_better:
        return ngettext(
            "{count} low night of {whole} may be chance; {more} more would be significant",
            "{count} low nights of {whole} may be chance; {more} more would be significant",
            len(alike),
            whole=len(level),
            more=more,
        )
    return ngettext(
        "{count} high night of {whole} may be chance; {more} more would be significant",
        "{count} high nights of {whole} may be chance; {more} more would be significant",
        len(alike),
        whole=len(level),
        more=more,
    )


def _versions(series: Series, good: int, bad: int) -> str:
    """What changed from the last good night to the first bad one, also in between."""
    changed: dict[str, tuple[str, str]] = {}
    for each in series.nights[good:bad]:
        for version in each.changed:
            first = changed.get(version.name, (version.before, ""))[0]
            changed[version.name] = (first, version.after)
    said = [
        f"{shown(name)} {cut(before or unknown(), 24)} → {cut(after or unknown(), 24)}"
        for name, (before, after) in changed.items()
        if before != after
    ]
    told = {"good": good, "bad": bad, "versions": gettext(", ").join(said[:VERSIONS])}
    if not said:
        return gettext(
            "No recorded version, file or prompt changed between nights {good} and {bad}", **told
        )
    if len(said) > VERSIONS:
        return gettext(
            "Changed between nights {good} and {bad}: {versions} and {count} more",
            **told,
            count=len(said) - VERSIONS,
        )
    return gettext("Changed between nights {good} and {bad}: {versions}", **told)
