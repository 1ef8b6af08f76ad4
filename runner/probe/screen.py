"""Prints what a probe found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from runner.percent import percent
from runner.present import style
from runner.runtimes.server.probe.crosstalk import CrossTalk
from runner.runtimes.server.probe.examining import Probed
from runner.runtimes.server.probe.identity import Identity
from runner.runtimes.server.probe.repeatability import Condition, Repeatability
from runner.status import INACCURATE, NO_VERDICT

SUMMARY = {
    0: "Healthy",
    INACCURATE: "Not healthy: accuracy is at risk",
    NO_VERDICT: "Inconclusive: a check could not be made",
}


def show(out: Console, found: Probed) -> None:
    """Print the findings of each check, what could not be checked, and the conclusion."""
    checks: dict[str, tuple[Identity | Repeatability | CrossTalk, Iterator[tuple[str, str]]]] = {
        "identity": (found.identity, _identity(found.identity)),
        "repeatability": (found.repeatability, _repeatability(found.repeatability)),
        "cross-talk": (found.crosstalk, _crosstalk(found.crosstalk)),
    }
    out.print(found.url)
    for name, (check, rows) in checks.items():
        headline = Table.grid(padding=(0, 2))
        headline.add_row(style.verdict(check.status.value), f"{name}: {check.reason}")
        out.print()
        out.print(headline, soft_wrap=False)
        if check is found.repeatability and found.repeatability.conditions:
            out.print(_conditions(found.repeatability.conditions), soft_wrap=False)
        _grid(out, rows)
    unchecked = [(name, line) for name, (check, _) in checks.items() for line in check.unchecked]
    if unchecked:
        out.print("\nNot checked")
        _grid(out, unchecked)
    out.print(f"\n{SUMMARY[found.exit_status]} ({_sent(found)}).")


def _grid(out: Console, rows: Iterable[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row("", *row)
    for column in table.columns:
        column.overflow = "fold"
    out.print(table, soft_wrap=False)


def _identity(found: Identity) -> Iterator[tuple[str, str]]:
    yield "served name", found.served_name
    if found.root not in (None, found.served_name):
        yield "weights", str(found.root)
    if found.version is not None:
        yield "version", found.version
    if found.max_model_len is not None:
        limit = found.model_limit
        own = "" if limit is None else f" (limit of {found.model}: {limit})"
        yield "max_model_len", f"{found.max_model_len}{own}"
    yield "answers from", ", ".join(found.answered_as)
    if found.prompts:
        alike = Counter(each.agreement.value for each in found.prompts)
        yield "prompt tokens", ", ".join(f"{number} {how}" for how, number in alike.items())
    for each in found.prompts:
        if each.difference:
            yield "", f"{each.name}: {each.difference}"
    if found.vocabulary is not None:
        yield "vocabulary", f"{found.vocabulary.compared} token ids compared"
        for line in found.vocabulary.different:
            yield "", line


def _conditions(found: Iterable[Condition]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("condition", overflow="fold")
    for column in ("answers", "same", "near-tie", "other", "max |Δ|", "median"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in found:
        table.add_row(
            each.name,
            str(each.answers),
            str(each.same),
            str(each.near_ties),
            str(each.jumps + each.unexplained),
            _nats(each.largest),
            _nats(each.typical),
        )
    return table


def _repeatability(found: Repeatability) -> Iterator[tuple[str, str]]:
    images = ", one of them with an image" if found.images else ""
    yield "requests", f"{found.requests} different{images}"
    if any(each.compared for each in found.conditions):
        yield "|Δ|", "absolute difference of a token's log-probability, in nats"
    if found.cached is not None and found.looked_up:
        share = found.cached / found.looked_up
        yield (
            "warm cache",
            f"{found.cached} of {found.looked_up} prompt tokens ({percent(share, 0)})",
        )


def _crosstalk(found: CrossTalk) -> Iterator[tuple[str, str]]:
    if found.method:
        yield "requests", f"{found.requests}, {found.concurrency} at a time: {found.method}"
    if found.matches:
        counts = ", ".join(f"{number} {kind}" for kind, number in found.matches.items())
        yield "answers", counts
    if found.rate:
        yield "fault rate", f"{_share(found.rate)}, at most {_share(found.bound)} (95 % confidence)"
    elif found.detected is not None:
        yield (
            "detects",
            f"faults in {_share(found.detected)} of requests or more, with 95 % probability",
        )
    for line in found.examples:
        yield "", line


def _nats(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2g} %"


def _sent(found: Probed) -> str:
    retried = ", ".join(f"{kind} ×{number}" for kind, number in found.retried.items())
    return f"{found.requests} requests{f'; retried: {retried}' if retried else ''}"
