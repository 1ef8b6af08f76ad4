"""What changed in a suite since the night before, in a few lines of plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.present.formats import number
from runner.status import Status
from runner.suite.decision import advice
from runner.suite.markdown import night
from runner.suite.nights import Night
from runner.suite.result import EntryResult, SuiteResult

MISSING = "missing"
TOGETHER = "pooled test"
WORSE, NOT_WORSE = "significant drop", "no drop"


def news(result: SuiteResult, nights: Sequence[Night]) -> list[str]:
    """Return the result in lines, compared with the earlier `nights`, the latest first."""
    sentences = [line for line in (result.sentence, advice(result.entries)) if line]
    if not nights:
        return [*sentences, "This is the suite's first night.", *_not_good(result, [])]
    changes = _changes(result, nights[0].result)
    since = night(nights[0].result.id)
    said = [f"Changed since {since}:", *changes] if changes else [f"Nothing changed since {since}."]
    return [*sentences, *said, *_not_good(result, nights)]


def states(result: SuiteResult) -> dict[str, str]:
    """Return each entry's verdict, and whether all together are significantly worse."""
    together = WORSE if any(test.significant for test in result.pooled) else NOT_WORSE
    return {entry.name: _state(entry) for entry in result.entries} | {TOGETHER: together}


def _changes(result: SuiteResult, before: SuiteResult) -> list[str]:
    then, now = states(before), states(result)
    values = {entry.name: entry for entry in before.entries}
    lines = [
        f"- {entry.name} ({entry.tier}): {then[entry.name]} → {now[entry.name]}"
        f"{_values(values[entry.name], entry)}"
        for entry in result.entries
        if entry.name in then and then[entry.name] != now[entry.name]
    ]
    lines += [f"- {name}: new, {now[name]}" for name in now if name not in then]
    lines += [f"- {name}: no longer in the suite" for name in then if name not in now]
    if then[TOGETHER] != now[TOGETHER]:
        lines.append(f"- {TOGETHER}: {then[TOGETHER]} → {now[TOGETHER]}")
    return lines


def _values(before: EntryResult, now: EntryResult) -> str:
    """`, canary acc 0.907 → 0.843`, if both nights have measured it."""
    if now.shown is None:
        return ""
    then = next((each for each in before.metrics if each.key == now.shown.key), None)
    if then is None or then.value is None or now.shown.value is None:
        return ""
    return f", {now.shown.name} {number(then.value, 3)} → {number(now.shown.value, 3)}"


def _not_good(result: SuiteResult, nights: Sequence[Night]) -> list[str]:
    """Each entry that did not pass: its verdict, since when it has it, and the reason."""
    bad = [entry for entry in result.entries if entry.verdict != Status.PASSED.value]
    return ["Did not pass:", *(_since(entry, nights) for entry in bad)] if bad else []


def _since(entry: EntryResult, nights: Sequence[Night]) -> str:
    same = 0
    for each in nights:
        if _states_of(each).get(entry.name) != _state(entry):
            break
        same += 1
    since = f" since {night(nights[same - 1].result.id)} ({same + 1} nights)" if same else ""
    reason = f": {entry.reason}" if entry.reason else ""
    return f"- {entry.name} ({entry.tier}): {_state(entry)}{since}{reason}"


def _states_of(night: Night) -> Mapping[str, str]:
    return states(night.result)


def _state(entry: EntryResult) -> str:
    return MISSING if entry.missing else entry.verdict
