"""What a trace has found about experts, in sentences and in rows of a table."""

from __future__ import annotations

from dataclasses import dataclass

from runner.present.formats import times
from runner.trace.departures import FACTOR
from runner.trace.experts import Routing, within
from runner.trace.result import TraceResult

# Experts on the page; all of them are in trace.json.
SHOWN = 16


@dataclass(frozen=True)
class ExpertRow:
    """One expert: its tokens in A and B, and the ratios as text."""

    number: int
    first: int
    second: int
    ratio: str
    others: str
    alone: bool


@dataclass(frozen=True)
class BlockTable:
    """The experts of the first block that departs, and how many more there are."""

    name: str
    about: str
    rows: tuple[ExpertRow, ...]
    more: int


def about_experts(result: TraceResult) -> list[str]:
    """Return what is known of the experts of the first block that departs."""
    experts, routing = result.experts, _routing(result)
    if experts is None or routing is None:
        return []
    said = []
    for each in experts.experts:
        if each.number == experts.alone and each.others is not None and each.worst is not None:
            said.append(
                f"Expert {each.number} of {experts.block} departs alone: the {each.tokens} tokens "
                f"that are routed to it have {times(each.ratio)} × the noise, all others "
                f"{times(each.others)} × (at most {times(each.worst)} × in a question). Suspect "
                "its weights, and how they are loaded."
            )
    first = result.found.first if result.found is not None else None
    if not said and experts.experts and first is not None and within(first.module, experts.block):
        said.append(f"No expert of {experts.block} departs alone.")
    if routing.changed > routing.noise:
        said.append(
            f"The router of {experts.block} sends {_share(routing.changed)} of the tokens to other "
            f"experts in B than in A (A again: {_share(routing.noise)})."
        )
    return said


def block_table(result: TraceResult) -> BlockTable | None:
    """Return the experts of the first block that departs; None if there is no such block."""
    experts, routing = result.experts, _routing(result)
    if experts is None or routing is None:
        return None
    judged = {each.number: each for each in experts.experts}
    numbers = sorted(
        range(len(routing.first)),
        key=lambda number: -judged[number].ratio if number in judged else 0.0,
    )
    if experts.alone in numbers:
        numbers.remove(experts.alone)
        numbers.insert(0, experts.alone)
    rows = []
    for number in numbers[:SHOWN]:
        each = judged.get(number)
        others = None if each is None else each.others
        rows.append(
            ExpertRow(
                number,
                routing.first[number],
                routing.second[number],
                "–" if each is None else times(each.ratio),
                "–" if others is None else times(others),
                number == experts.alone,
            )
        )
    about = (
        f"{routing.tokens} tokens; {_share(routing.changed)} of them have other experts in B than "
        f"in A (A again: {_share(routing.noise)}). The ratios to the noise are those of the "
        "block's output, for tokens with the same experts in A and B. Each token has several "
        "experts, so one faulty expert also raises the ratios of those that share its tokens. An "
        f"expert departs alone if the ratio of all other tokens is at most {FACTOR:g} in every "
        "question."
    )
    return BlockTable(experts.block, about, tuple(rows), len(numbers) - len(rows))


def _routing(result: TraceResult) -> Routing | None:
    block = result.experts.block if result.experts is not None else None
    return next((each for each in result.routings if each.block == block), None)


def _share(share: float) -> str:
    return f"{100 * share:.2g} %" if share else "none"
