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
    required = [e for e in entries if e.required and any(m.rule for m in e.metrics)]
    tested = [e for e in required if any(m.p is not None for m in e.metrics)]
    alone = [e for e in required if e not in tested]
    lines = []
    if len(tested) > 1:
        failed = [e for e in tested if e.verdict == Status.FAILED.value]
        found = [e for e in failed if any((m.p_holm or 1.0) <= ALPHA for m in _failed(e))]
        text = (
            f"{len(failed)} of {len(tested)} required entries with a test FAILED"
            if failed
            else f"None of {len(tested)} required entries with a test FAILED"
        )
        if failed:
            text += (
                f"; {len(found) or 'none'} of them significant after Holm's correction over "
                f"{len(tested)} entries"
            )
        lines.append(text)
        lines += [_line(entry, len(tested)) for entry in failed if _failed(entry)]
    elif tested:
        lines.append(
            f"Only {tested[0].name} was judged by a test, so there is nothing to correct for"
        )
    if alone:
        rules = sorted({m.rule for e in alone for m in e.metrics if m.rule})
        lines.append(
            f"Judged alone, because {' and '.join(rules)} give{'s' if len(rules) == 1 else ''} no "
            f"p value: {', '.join(e.name for e in alone)}"
        )
    return lines


def _failed(entry: EntryResult) -> list[Measured]:
    return [m for m in entry.metrics if m.verdict == Status.FAILED.value and m.p_holm is not None]


def _line(entry: EntryResult, tested: int) -> str:
    least = min(_failed(entry), key=lambda metric: metric.p_holm or 0.0)
    significant = (least.p_holm or 0.0) <= ALPHA
    return (
        f"{entry.name}: {probability(least.p or 0.0)}; {'' if significant else 'not '}significant "
        f"among {tested} entries (Holm: {probability(least.p_holm or 0.0)})"
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
