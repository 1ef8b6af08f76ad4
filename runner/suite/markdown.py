"""Renders suite.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runner.language import N_, gettext
from runner.present.formats import cell, duration, fenced, interval, number, signed
from runner.suite.decision import advice
from runner.suite.result import EntryResult, Measured, SuiteResult
from runner.visible import visible

HEAD = (
    *(N_("Entry"), N_("Tier"), N_("Model"), N_("Task"), N_("Verdict"), N_("Metric"), N_("Value")),
    *(N_("95 % interval"), "n", N_("Baseline"), N_("Last good night"), N_("Change")),
    N_("Duration"),
)
# Names in `versions` that are words.
WORDS = {"hardware": N_("hardware")}


def page(result: SuiteResult, linked: bool = True) -> str:
    """Render the result; `linked` is false for a page that is read away from the directory."""
    advised = advice(result.entries)
    parts = [
        f"# {cell(result.sentence)}",
        gettext("{sentence}.", sentence=cell(advised)) if advised else "",
        gettext("Suite {name}, night {night}.", name=cell(result.name), night=cell(result.id)),
        _table([gettext(each) for each in HEAD], [_row(entry, linked) for entry in result.entries]),
        "\n".join(f"- {cell(line)}" for line in reasons(result.entries)),
        *(["## " + gettext("All entries together")] if result.joint else []),
        "\n".join(f"- {cell(line)}" for line in result.joint),
        *(["## " + gettext("Versions")] if result.versions else []),
        "\n".join(f"- {cell(line)}" for line in versions(result)),
        *(["## " + gettext("Reproduce"), fenced(result.command, "bash")] if result.command else []),
    ]
    return visible("\n\n".join(part for part in parts if part)) + "\n"


def reasons(entries: Iterable[EntryResult]) -> list[str]:
    """Return a line with the reason of each entry that did not pass."""
    return [
        gettext(
            "{name} ({tier}) {verdict}: {reason}",
            name=entry.name,
            tier=entry.shown_tier,
            verdict=entry.verdict,
            reason=entry.reason or gettext("no reason was recorded"),
        )
        for entry in entries
        if entry.verdict != "PASSED"
    ]


def versions(result: SuiteResult) -> list[str]:
    """Return `vllm 0.32.0`; several values if the entries ran on different stacks."""
    comma = gettext(", ")
    return [
        f"{gettext(WORDS[name]) if name in WORDS else name} {comma.join(values)}"
        for name, values in result.versions.items()
    ]


def last_good(entry: EntryResult) -> str:
    """Return `0.893 on 2026-11-30/22-10-11`; empty if there is none."""
    good = entry.last_good
    if good is None:
        return ""
    return gettext("{value} on {night}", value=number(good.value, 3), night=night(good.id))


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
    if not good.same:
        return gettext("other evaluation")
    return signed(good.change, 3).replace("-", "−")


def _row(entry: EntryResult, linked: bool) -> list[str]:
    shown = entry.shown
    name = cell(entry.name)
    return [
        f"[{name}]({entry.directory}/report.md)" if linked and entry.report else name,
        entry.shown_tier,
        cell(entry.model),
        cell(entry.task),
        entry.verdict,
        cell(shown.name) if shown is not None else "",
        number(shown.value, 3) if shown is not None else "",
        interval(shown.interval, 3) if shown is not None else "",
        _count(shown) if shown is not None else "",
        number(shown.baseline, 3) if shown is not None else "",
        cell(last_good(entry)),
        cell(change(entry)),
        duration(entry.seconds) if entry.seconds is not None else "",
    ]


def _count(shown: Measured) -> str:
    if shown.whole is None or shown.n >= shown.whole:
        return str(shown.n)
    return gettext("{count} of {whole}", count=shown.n, whole=shown.whole)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
