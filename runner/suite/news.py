"""What changed in a suite since the night before, in a few lines of plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.language import N_, gettext
from runner.present.formats import number
from runner.status import Status
from runner.suite.decision import advice
from runner.suite.markdown import night
from runner.suite.nights import Night
from runner.suite.result import EntryResult, SuiteResult

# What programs compare is English; `_shown` translates it.
TOGETHER = "pooled test"
MISSING = N_("missing")
WORSE, NOT_WORSE = N_("significant drop"), N_("no drop")


def news(result: SuiteResult, nights: Sequence[Night]) -> list[str]:
    """Return the result in lines, compared with the earlier `nights`, the latest first."""
    sentences = [line for line in (result.sentence, advice(result.entries)) if line]
    if not nights:
        first = gettext("This is the suite's first night.")
        return [*sentences, first, *_not_good(result, [])]
    changes = _changes(result, nights[0].result)
    since = night(nights[0].result.id)
    if changes:
        said = gettext("Changed since {night}:", night=since)
    else:
        said = gettext("Nothing changed since {night}.", night=since)
    return [*sentences, said, *changes, *_not_good(result, nights)]


def states(result: SuiteResult) -> dict[str, str]:
    """Return each entry's verdict, and whether all together are significantly worse."""
    together = WORSE if any(test.significant for test in result.pooled) else NOT_WORSE
    return {entry.name: _state(entry) for entry in result.entries} | {TOGETHER: together}


def _changes(result: SuiteResult, before: SuiteResult) -> list[str]:
    then, now = states(before), states(result)
    values = {entry.name: entry for entry in before.entries}
    lines = [
        _changed(entry, then[entry.name], now[entry.name], values[entry.name])
        for entry in result.entries
        if entry.name in then and then[entry.name] != now[entry.name]
    ]
    lines += [
        gettext("- {name}: new, {state}", name=name, state=_shown(now[name]))
        for name in now
        if name not in then
    ]
    lines += [
        gettext("- {name}: no longer in the suite", name=name) for name in then if name not in now
    ]
    if then[TOGETHER] != now[TOGETHER]:
        lines.append(
            gettext(
                "- pooled test: {then} → {now}",
                then=_shown(then[TOGETHER]),
                now=_shown(now[TOGETHER]),
            )
        )
    return lines


def _changed(entry: EntryResult, then: str, now: str, before: EntryResult) -> str:
    said = {
        "name": entry.name,
        "tier": entry.shown_tier,
        "then": _shown(then),
        "now": _shown(now),
        "values": _values(before, entry),
    }
    if said["values"]:
        return gettext("- {name} ({tier}): {then} → {now}, {values}", **said)
    return gettext("- {name} ({tier}): {then} → {now}", **said)


def _values(before: EntryResult, now: EntryResult) -> str:
    """`canary acc 0.907 → 0.843`, if both nights have measured it."""
    if now.shown is None:
        return ""
    then = next((each for each in before.metrics if each.key == now.shown.key), None)
    if then is None or then.value is None or now.shown.value is None:
        return ""
    return f"{now.shown.name} {number(then.value, 3)} → {number(now.shown.value, 3)}"


def _not_good(result: SuiteResult, nights: Sequence[Night]) -> list[str]:
    """Each entry that did not pass: its verdict, since when it has it, and the reason."""
    bad = [entry for entry in result.entries if entry.verdict != Status.PASSED.value]
    return [gettext("Did not pass:"), *(_since(entry, nights) for entry in bad)] if bad else []


def _since(entry: EntryResult, nights: Sequence[Night]) -> str:
    same = 0
    for each in nights:
        if _states_of(each).get(entry.name) != _state(entry):
            break
        same += 1
    said = {"name": entry.name, "tier": entry.shown_tier, "state": _shown(_state(entry))}
    if same:
        line = gettext(
            "- {name} ({tier}): {state} since {night} ({count} nights)",
            **said,
            night=night(nights[same - 1].result.id),
            count=same + 1,
        )
    else:
        line = gettext("- {name} ({tier}): {state}", **said)
    return gettext("{clause}: {reason}", clause=line, reason=entry.reason) if entry.reason else line


def _states_of(night: Night) -> Mapping[str, str]:
    return states(night.result)


def _shown(state: str) -> str:
    return gettext(state) if state in (MISSING, WORSE, NOT_WORSE) else state


def _state(entry: EntryResult) -> str:
    return MISSING if entry.missing else entry.verdict
