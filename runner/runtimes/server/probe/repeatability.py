"""Judges whether a server repeats itself: alone, in a full batch, with a cold or warm cache."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from runner.runtimes.server.probe.reply import Change
from runner.status import Status

# In nats. Rounding to 16 bits moves the canary's log-probabilities by 0.00024 (median) and 0.29
# (maximum), another question's image by 3.2 and 53 (docs/canary.md). The limits leave room for
# larger models, in which rounding can also change the choice of experts.
LARGEST, TYPICAL = 1.0, 0.05


@dataclass(frozen=True)
class Condition:
    """Answers under one condition, compared with the first answers to the same requests.

    Of the `answers`, `same` have the same tokens. `near_ties` differ first at a token that led its
    replacement by less than LARGEST, `jumps` by more; of `unexplained` the lead is unknown.
    `largest` and `typical` (median) are absolute differences of `compared` log-probabilities in
    nats, and None if there are none; `broken` are not finite.
    """

    name: str
    answers: int
    same: int
    near_ties: int
    jumps: int
    unexplained: int
    compared: int
    largest: float | None
    typical: float | None
    broken: int


@dataclass(frozen=True)
class Repeatability:
    """How far answers to repeated requests differ.

    `cached` and `looked_up` are the server's numbers of prompt tokens that it found in its prefix
    cache, and looked for, while requests were repeated with a warm cache; None if unknown.
    """

    status: Status
    reason: str
    conditions: tuple[Condition, ...]
    requests: int
    images: bool
    cached: int | None
    looked_up: int | None
    unchecked: tuple[str, ...]


def is_near_tie(change: Change) -> bool | None:
    """Whether rounding explains that a token changed; None if the server tells too little."""
    return None if change.lead is None else change.lead < LARGEST


def condition(name: str, changes: Sequence[Change]) -> Condition:
    """Summarise the changes under one condition."""
    moves = [move for each in changes for move in each.moves]
    ties = [is_near_tie(each) for each in changes if not each.same]
    return Condition(
        name=name,
        answers=len(changes),
        same=len(changes) - len(ties),
        near_ties=ties.count(True),
        jumps=ties.count(False),
        unexplained=ties.count(None),
        compared=len(moves),
        largest=max(moves, default=None),
        typical=statistics.median(moves) if moves else None,
        broken=sum(each.broken for each in changes),
    )


def judge(
    conditions: Sequence[Condition],
    *,
    requests: int,
    images: bool,
    cached: int | None,
    looked_up: int | None,
    unchecked: Sequence[str],
) -> Repeatability:
    """The finding over all conditions."""
    faults = [f"{each.name}: {fault}" for each in conditions for fault in _faults(each)]
    unexplained = sum(each.unexplained for each in conditions)
    if faults:
        status, reason = Status.FAILED, "; ".join(faults)
    elif not conditions:
        status, reason = Status.INCONCLUSIVE, "no request could be repeated"
    elif unexplained:
        status = Status.INCONCLUSIVE
        reason = (
            f"{_counted(unexplained)}; without log-probabilities, rounding and faults look alike"
        )
    else:
        status, reason = Status.PASSED, _said(conditions)
    return Repeatability(
        status, reason, tuple(conditions), requests, images, cached, looked_up, tuple(unchecked)
    )


def _faults(found: Condition) -> list[str]:
    faults = []
    if found.broken:
        faults.append(f"{found.broken} log-probabilities are NaN or infinite")
    if found.jumps:
        faults.append(f"{_counted(found.jumps)} at a clear choice")
    if found.largest is not None and found.largest > LARGEST:
        faults.append(f"a log-probability moved by {found.largest:.2g} nats")
    if found.typical is not None and found.typical > TYPICAL:
        faults.append(f"log-probabilities moved by {found.typical:.2g} nats (median)")
    return faults


def _said(conditions: Sequence[Condition]) -> str:
    changed = sum(each.near_ties for each in conditions)
    moves = [each.largest for each in conditions if each.largest is not None]
    if not moves:
        return "same answers"
    said = f"{_counted(changed)}, all at near-ties" if changed else "same tokens"
    if not any(moves):
        return f"{said}, log-probabilities identical"
    return f"{said}, log-probabilities moved by {max(moves):.2g} nats at most"


def _counted(number: int) -> str:
    return "1 answer changed" if number == 1 else f"{number} answers changed"
