"""The result of all series in a sentence."""

from __future__ import annotations

from collections.abc import Iterator

from runner.history.findings import inside
from runner.history.result import History, Kind, Series, State
from runner.language import gettext, ngettext


def summary(history: History) -> str:
    """Return the result of all series in a sentence."""
    return gettext("; ").join([_accuracy(history), *_others(history)])


def _accuracy(history: History) -> str:
    worse = history.accuracy(State.WORSE, State.DECLINING)
    check = history.accuracy(State.CHECK)
    whole = len(history.accuracy(*State))
    if len(worse) == 1:
        headline = inside(worse[0].headline)
        return gettext("{series} {headline}", series=_name(worse[0]), headline=headline)
    if worse:
        return gettext(
            "Accuracy dropped in {count} of {whole} series", count=len(worse), whole=whole
        )
    if len(check) == 1:
        headline = check[0].headline
        return gettext("{series}: {headline}", series=_name(check[0]), headline=headline)
    if check:
        return gettext(
            "Accuracy may have dropped, or is unknown, in {count} of {whole} series",
            count=len(check),
            whole=whole,
        )
    if not whole:
        return gettext("No series of accuracy was asked for")
    few = len(history.accuracy(State.TOO_FEW))
    if few == whole:
        return gettext("Too few nights to find a drop")
    if few:
        return ngettext(
            "No drop of accuracy in {steady} of {whole} series; {count} has too few nights",
            "No drop of accuracy in {steady} of {whole} series; {count} have too few nights",
            few,
            steady=whole - few,
            whole=whole,
        )
    return gettext("No drop of accuracy in {whole} series", whole=whole)


def _name(series: Series) -> str:
    return f"{series.model}/{series.task}"


def _others(history: History) -> Iterator[str]:
    """A clause about what is not accuracy, if any of it got worse."""
    worse = [
        each
        for each in history.series
        if each.kind is not Kind.ACCURACY and each.state in (State.WORSE, State.DECLINING)
    ]
    if worse:
        yield ngettext(
            "{count} other measurement (throughput, …) got worse",
            "{count} other measurements (throughput, …) got worse",
            len(worse),
        )
