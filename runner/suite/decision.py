"""Judges a suite: its exit status by tiers, the sentence above all, and Holm's correction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from runner.present.formats import number
from runner.stats import ALPHA
from runner.stats.several import holm
from runner.status import (
    INACCURATE,
    INFRASTRUCTURE,
    INTERRUPTED,
    NO_VERDICT,
    USAGE_ERROR,
    Status,
    worst,
)
from runner.suite.result import EntryResult, Measured
from runner.sweep.axis_findings import probability

# Entries that a sentence names.
NAMED = 3
BY_STATUS = {
    INACCURATE: Status.FAILED,
    INFRASTRUCTURE: Status.ERROR,
    NO_VERDICT: Status.INCONCLUSIVE,
    USAGE_ERROR: Status.REFUSED,
    INTERRUPTED: Status.INTERRUPTED,
}


def exit_status(entries: Iterable[EntryResult]) -> int:
    """Return the worst exit status of the required entries; advisory ones do not count."""
    return worst(entry.exit_status for entry in entries if entry.required)


def verdict(entries: Sequence[EntryResult]) -> str:
    """Return the suite's verdict, which belongs to its exit status.

    UNJUDGED with status 0 if none of its required entries was judged, which `require_baseline`
    allows.
    """
    status = exit_status(entries)
    if not status:
        passed = any(e.required and e.verdict == Status.PASSED.value for e in entries)
        return str(Status.PASSED.value if passed else Status.UNJUDGED.value)
    return str(BY_STATUS[status].value)


def sentence(name: str, entries: Sequence[EntryResult]) -> str:
    """Return `Suite canary FAILED: 2 of 3 required entries passed; canary_moe FAILED (…)`."""
    required = [entry for entry in entries if entry.required]
    told = f"Suite {name} {verdict(entries)}: "
    if not required:
        return f"{told}no entry is required, so nothing was decided"
    passed = sum(entry.verdict == Status.PASSED.value for entry in required)
    unjudged = sum(not e.exit_status and e.verdict != Status.PASSED.value for e in required)
    if passed == len(required):
        all_of_them = f"all {passed} required entries" if passed > 1 else "1 required entry"
        return f"{told}{all_of_them} passed"
    told += f"{passed} of {len(required)} required entries passed"
    if unjudged:
        told += f", {unjudged} ran without being judged"
    bad = [entry for entry in required if entry.exit_status]
    bad.sort(key=lambda entry: entry.exit_status != exit_status(entries))
    named = [f"{entry.name} {_how(entry)}" for entry in bad[:NAMED]]
    more = [f"and {len(bad) - NAMED} more"] if len(bad) > NAMED else []
    return "; ".join([told, *named, *more])


def advice(entries: Sequence[EntryResult]) -> str:
    """Return a sentence about advisory entries that did not pass; empty if there are none."""
    bad = [entry for entry in entries if not entry.required and entry.exit_status]
    if not bad:
        return ""
    named = ", ".join(f"{entry.name} {_how(entry)}" for entry in bad[:NAMED])
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return f"Advisory, without effect on the exit status: {named}{more}"


def adjusted(entries: Sequence[EntryResult]) -> list[EntryResult]:
    """Return the entries with Holm's p for the tests of all required entries together."""
    tests = [m.p for e in entries if e.required for m in e.metrics if m.p is not None]
    waiting = iter(holm(tests))

    def fill(metric: Measured) -> Measured:
        return metric if metric.p is None else replace(metric, p_holm=next(waiting))

    found = []
    for entry in entries:
        metrics = tuple(map(fill, entry.metrics)) if entry.required else entry.metrics
        shown = entry.metrics.index(entry.shown) if entry.shown is not None else None
        found.append(
            replace(entry, metrics=metrics, shown=metrics[shown] if shown is not None else None)
        )
    return found


def joint(entries: Sequence[EntryResult]) -> list[str]:
    """Return lines about the tests of the required entries together; `adjusted` comes first.

    Empty if no required entry was judged.
    """
    required = [entry for entry in entries if entry.required]
    tests = sum(m.p is not None for entry in required for m in entry.metrics)
    tested = [e for e in required if any(m.p is not None for m in e.metrics)]
    lines = []
    if tests > 1:
        failed = [entry for entry in tested if _failed_tests(entry)]
        noun = "entry" if len(tested) == 1 else "entries"
        text = f"{len(failed) or 'None'} of {len(tested)} required {noun} with a test FAILED it"
        if failed:
            found = sum(_least(entry)[0] <= ALPHA for entry in failed)
            text += (
                f"; {found or 'none'} of them significant after Holm's correction over "
                f"{tests} tests"
            )
        lines = [text, *(_line(entry, tests) for entry in failed)]
    elif tested:
        lines.append(
            f"Only {tested[0].name} was judged by a test, so there is nothing to correct for"
        )
    return lines + _untested(required, tests)


def _untested(required: Sequence[EntryResult], tests: int) -> list[str]:
    """A line about entries that no p value, or not p values alone, decided."""
    names, rules = [], set()
    for entry in required:
        without = [m for m in entry.metrics if m.rule and m.p is None]
        if any(m.p is not None for m in entry.metrics):  # they are part of the correction
            without = [m for m in without if m.verdict == Status.FAILED.value]
            names += [f"{entry.name} (FAILED by {m.name})" for m in without]
        elif without:
            names.append(entry.name)
        rules |= {m.rule for m in without}
    if not names:
        return []
    why = f"{' and '.join(sorted(rules))} {'has' if len(rules) == 1 else 'have'} no p value"
    what = "Not part of the correction" if tests > 1 else "Judged without a test"
    return [f"{what} ({why}): {', '.join(names)}"]


def _failed_tests(entry: EntryResult) -> list[tuple[float, float]]:
    """Holm's p and p of each metric that FAILED by a test."""
    return [
        (m.p_holm, m.p)
        for m in entry.metrics
        if m.verdict == Status.FAILED.value and m.p is not None and m.p_holm is not None
    ]


def _least(entry: EntryResult) -> tuple[float, float]:
    return min(_failed_tests(entry))


def _line(entry: EntryResult, tests: int) -> str:
    adjusted_p, p = _least(entry)
    return (
        f"{entry.name}: {probability(p)}; {'' if adjusted_p <= ALPHA else 'not '}significant "
        f"among {tests} tests (Holm: {probability(adjusted_p)})"
    )


def _how(entry: EntryResult) -> str:
    """`FAILED (0.843, baseline 0.907)`, or the verdict alone."""
    word = f"is missing ({entry.verdict})" if entry.missing else entry.verdict
    shown = entry.shown
    if entry.missing or shown is None or shown.value is None:
        return word
    told = number(shown.value, 3)
    if shown.baseline is not None:
        told += f", baseline {number(shown.baseline, 3)}"
    return f"{word} ({told})"
