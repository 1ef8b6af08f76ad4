"""Judges a suite: its exit status by tiers, the sentence above all, and Holm's correction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from runner.language import gettext, ngettext
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
    return gettext(
        "Suite {name} {verdict}: {result}",
        name=name,
        verdict=verdict(entries),
        result=gettext("; ").join(_clauses(entries)),
    )


def _clauses(entries: Sequence[EntryResult]) -> list[str]:
    """How many required entries passed, and those that did not."""
    required = [entry for entry in entries if entry.required]
    if not required:
        return [gettext("no entry is required, so nothing was decided")]
    passed = sum(entry.verdict == Status.PASSED.value for entry in required)
    unjudged = sum(not e.exit_status and e.verdict != Status.PASSED.value for e in required)
    if passed == len(required):
        return [
            ngettext("{count} required entry passed", "all {count} required entries passed", passed)
        ]
    counts = {"passed": passed, "count": len(required), "unjudged": unjudged}
    if unjudged:
        counted = gettext(
            "{passed} of {count} required entries passed, {unjudged} ran without being judged",
            **counts,
        )
    else:
        counted = gettext("{passed} of {count} required entries passed", **counts)
    bad = [entry for entry in required if entry.exit_status]
    bad.sort(key=lambda entry: entry.exit_status != exit_status(entries))
    more = [gettext("and {count} more", count=len(bad) - NAMED)] if len(bad) > NAMED else []
    return [counted, *map(_how, bad[:NAMED]), *more]


def advice(entries: Sequence[EntryResult]) -> str:
    """Return a sentence about advisory entries that did not pass; empty if there are none."""
    bad = [entry for entry in entries if not entry.required and entry.exit_status]
    if not bad:
        return ""
    named = gettext(", ").join(map(_how, bad[:NAMED]))
    if len(bad) > NAMED:
        return gettext(
            "Advisory, without effect on the exit status: {named} and {count} more",
            named=named,
            count=len(bad) - NAMED,
        )
    return gettext("Advisory, without effect on the exit status: {named}", named=named)


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
        clauses = _tested(len(failed), len(tested))
        if failed:
            clauses.append(_significant(failed, tests))
        lines = [gettext("; ").join(clauses), *(_line(entry, tests) for entry in failed)]
    elif tested:
        lines.append(
            gettext(
                "Only {name} was judged by a test, so there is nothing to correct for",
                name=tested[0].name,
            )
        )
    return lines + _untested(required, tests)


def _tested(failed: int, tested: int) -> list[str]:
    if failed:
        return [
            ngettext(
                "{failed} of {count} required entry with a test FAILED it",
                "{failed} of {count} required entries with a test FAILED it",
                tested,
                failed=failed,
            )
        ]
    return [
        ngettext(
            "None of {count} required entry with a test FAILED it",
            "None of {count} required entries with a test FAILED it",
            tested,
        )
    ]


def _significant(failed: Iterable[EntryResult], tests: int) -> str:
    found = sum(_least(entry)[0] <= ALPHA for entry in failed)
    if found:
        return gettext(
            "{count} of them significant after Holm's correction over {tests} tests",
            count=found,
            tests=tests,
        )
    return gettext(
        "none of them significant after Holm's correction over {tests} tests", tests=tests
    )


def _untested(required: Sequence[EntryResult], tests: int) -> list[str]:
    """A line about entries that no p value, or not p values alone, decided."""
    names, rules = [], set()
    for entry in required:
        without = [m for m in entry.metrics if m.rule and m.p is None]
        if any(m.p is not None for m in entry.metrics):  # they are part of the correction
            without = [m for m in without if m.verdict == Status.FAILED.value]
            names += [
                gettext("{name} (FAILED by {metric})", name=entry.name, metric=m.name)
                for m in without
            ]
        elif without:
            names.append(entry.name)
        rules |= {m.rule for m in without}
    if not names:
        return []
    said = {"rules": gettext(" and ").join(sorted(rules)), "names": gettext(", ").join(names)}
    if tests > 1:
        return [
            ngettext(
                "Not part of the correction ({rules} has no p value): {names}",
                "Not part of the correction ({rules} have no p value): {names}",
                len(rules),
                **said,
            )
        ]
    return [
        ngettext(
            "Judged without a test ({rules} has no p value): {names}",
            "Judged without a test ({rules} have no p value): {names}",
            len(rules),
            **said,
        )
    ]


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
    said = {
        "name": entry.name,
        "p": probability(p),
        "tests": tests,
        "adjusted": probability(adjusted_p),
    }
    if adjusted_p <= ALPHA:
        return gettext(
            "{name}: {p}; significant among {tests} tests (Holm: {adjusted})",
            **said,
        )
    return gettext("{name}: {p}; not significant among {tests} tests (Holm: {adjusted})", **said)


def _how(entry: EntryResult) -> str:
    """`canary_moe FAILED (0.843, baseline 0.907)`, or with the verdict alone."""
    said = {"name": entry.name, "verdict": entry.verdict}
    shown = entry.shown
    if entry.missing:
        return gettext("{name} is missing ({verdict})", **said)
    if shown is None or shown.value is None:
        return f"{entry.name} {entry.verdict}"
    said["value"] = number(shown.value, 3)
    if shown.baseline is None:
        return gettext("{name} {verdict} ({value})", **said)
    said["baseline"] = number(shown.baseline, 3)
    return gettext("{name} {verdict} ({value}, baseline {baseline})", **said)
