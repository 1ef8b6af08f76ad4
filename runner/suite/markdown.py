"""Renders suite.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runner.present.formats import cell, duration, fenced, interval, number, signed
from runner.suite.decision import advice
from runner.suite.result import EntryResult, SuiteResult
from runner.visible import visible

HEAD = (
    *("Entry", "Tier", "Model", "Task", "Verdict", "Metric", "Value", "95 % interval", "n"),
    *("Baseline", "Last good night", "Change", "Duration"),
)


def page(result: SuiteResult, linked: bool = True) -> str:
    """Render the result; `linked` is false for a page that is read away from the directory."""
    parts = [
        f"# {cell(result.sentence)}",
        f"{cell(advice(result.entries))}." if advice(result.entries) else "",
        f"Suite {cell(result.name)}, night {cell(result.id)}.",
        _table(HEAD, [_row(entry, linked) for entry in result.entries]),
        "\n".join(f"- {cell(line)}" for line in reasons(result.entries)),
        *(["## All entries together"] if result.joint else []),
        "\n".join(f"- {cell(line)}" for line in result.joint),
        *(["## Versions"] if result.versions else []),
        "\n".join(f"- {cell(line)}" for line in versions(result)),
        *(["## Reproduce", fenced(result.command, "bash")] if result.command else []),
    ]
    return visible("\n\n".join(part for part in parts if part)) + "\n"


def reasons(entries: Iterable[EntryResult]) -> list[str]:
    """Return a line with the reason of each entry that did not pass."""
    return [
        f"{entry.name} ({entry.tier}) {entry.verdict}: {entry.reason or 'no reason was recorded'}"
        for entry in entries
        if entry.verdict != "PASSED"
    ]


def versions(result: SuiteResult) -> list[str]:
    """Return `vllm 0.32.0`; several values if the entries ran on different stacks."""
    return [f"{name} {', '.join(values)}" for name, values in result.versions.items()]


def last_good(entry: EntryResult) -> str:
    """Return `0.893 on 2026-11-30/22-10-11`; empty if there is none."""
    good = entry.last_good
    return f"{number(good.value, 3)} on {night(good.id)}" if good is not None else ""


def night(name: str) -> str:
    """Return `2026-11-30 22:10` for a directory that was named after its time, else its name."""
    date, _, time = name.partition("/")
    parts = time.split("-")
    return f"{date} {parts[0]}:{parts[1]}" if len(parts) in (3, 4) else name


def change(entry: EntryResult) -> str:
    """Return `−0.012`, or that the evaluation is not the same any more."""
    good = entry.last_good
    if good is None:
        return ""
    return signed(good.change, 3).replace("-", "−") if good.same else "other evaluation"


def _row(entry: EntryResult, linked: bool) -> list[str]:
    shown = entry.shown
    name = cell(entry.name)
    partial = shown is not None and shown.whole is not None and shown.n < shown.whole
    return [
        f"[{name}]({entry.directory}/report.md)" if linked and entry.report else name,
        entry.tier,
        cell(entry.model),
        cell(entry.task),
        entry.verdict,
        cell(shown.name) if shown is not None else "",
        number(shown.value, 3) if shown is not None else "",
        interval(shown.interval, 3) if shown is not None else "",
        "" if shown is None else f"{shown.n} of {shown.whole}" if partial else str(shown.n),
        number(shown.baseline, 3) if shown is not None else "",
        cell(last_good(entry)),
        cell(change(entry)),
        duration(entry.seconds) if entry.seconds is not None else "",
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
