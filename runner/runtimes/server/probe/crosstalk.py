"""Judges whether concurrent requests got each other's answers, and what such a test can find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from runner.runtimes.server.probe.questions import digits_in, nonces_in
from runner.runtimes.server.probe.repeatability import is_near_tie
from runner.runtimes.server.probe.reply import Reply, change
from runner.stats.shares import at_most, upper_bound
from runner.status import Status

# Examples that are described one by one, and the longest part of an answer in them.
SHOWN, LENGTH = 5, 40


class Match(str, Enum):
    """Whose answer a request got.

    OWN; FOREIGN: another request's; DAMAGED: neither, though the request is answered correctly when
    it is alone and no near-tie explains the change; NEAR_TIE explains it; UNCLEAR: cannot be told;
    WEAK: the request is not answered correctly when it is alone either.
    """

    OWN = "own"
    FOREIGN = "foreign"
    DAMAGED = "damaged"
    NEAR_TIE = "near-tie"
    UNCLEAR = "unclear"
    WEAK = "weak"


@dataclass(frozen=True)
class Asked:
    """A concurrent request and its answer.

    `nonce` is the number that a correct answer repeats. Without one, the correct answer is that of
    `alone`, the answer to the same request when nothing else was asked.
    """

    reply: Reply
    nonce: str = ""
    alone: Reply | None = None

    @property
    def expected(self) -> str:
        return self.nonce or (self.alone.text if self.alone is not None else "")

    @property
    def right(self) -> bool:
        return self.answered_by(self.reply)

    def answered_by(self, reply: Reply) -> bool:
        """Whether it is a correct answer to this request."""
        if self.nonce:
            return self.nonce in digits_in(reply.text)
        return reply.text == self.expected


@dataclass(frozen=True)
class CrossTalk:
    """Whose answers concurrent requests got; `matches` counts them.

    `visible` is the probability that an answer of another request is recognised as such: some
    requests have the same answer. `rate` is the share of requests with a fault. `detected` is the
    lowest rate at which so many requests show at least one fault with a probability of 95 %.
    `bound` is the upper 95 % confidence bound of the true rate (Clopper-Pearson, one-sided). All
    three are None if no answer could be judged.
    """

    status: Status
    reason: str
    method: str
    requests: int
    concurrency: int
    matches: Mapping[str, int]
    visible: float
    rate: float | None
    detected: float | None
    bound: float | None
    examples: tuple[str, ...]
    unchecked: tuple[str, ...]


def match(asked: Asked, nonces: Collection[str], answers: Collection[str]) -> Match:
    """Whose answer this is, given the nonces and known answers of all requests."""
    if asked.reply.misrouted or nonces_in(asked.reply.text, nonces) - {asked.nonce}:
        return Match.FOREIGN
    if asked.right:
        return Match.OWN
    if asked.alone is None:
        return Match.UNCLEAR
    if not asked.answered_by(asked.alone):
        return Match.WEAK
    tie = is_near_tie(change(asked.alone, asked.reply))
    if tie is None:
        return Match.UNCLEAR
    if tie:
        return Match.NEAR_TIE
    return Match.FOREIGN if asked.reply.text in answers else Match.DAMAGED


def judge(
    asked: Sequence[Asked], *, method: str, concurrency: int, unchecked: Sequence[str]
) -> CrossTalk:
    """The finding over all concurrent requests."""
    expected = Counter(each.expected for each in asked)
    nonces = {each.nonce for each in asked if each.nonce}
    found = [match(each, nonces, expected) for each in asked]
    matches = Counter(found)
    faults = matches[Match.FOREIGN] + matches[Match.DAMAGED]
    judged = faults + matches[Match.OWN]
    visible = _visible(expected)
    known = judged > 0 and visible > 0
    status, reason = _judged(matches, faults, judged if known else 0)
    return CrossTalk(
        status=status,
        reason=reason,
        method=method,
        requests=len(asked),
        concurrency=concurrency,
        matches={kind.value: matches[kind] for kind in Match if matches[kind]},
        visible=visible,
        rate=faults / judged if known else None,
        detected=detectable_rate(judged, visible) if known else None,
        bound=min(upper_bound(faults, judged) / visible, 1.0) if known else None,
        examples=tuple(
            _example(each, kind)
            for each, kind in zip(asked, found, strict=True)
            if kind in (Match.FOREIGN, Match.DAMAGED)
        )[:SHOWN],
        unchecked=tuple(unchecked),
    )


def detection_probability(rate: float, requests: int, visible: float = 1.0) -> float:
    """Probability that so many requests show at least one fault that meets each at this rate."""
    return 1.0 - at_most(0, requests, rate * visible)


def detectable_rate(requests: int, visible: float = 1.0) -> float:
    """The fault rate whose detection probability is 95 %."""
    return min(upper_bound(0, requests) / visible, 1.0)


def _visible(expected: Mapping[str, int]) -> float:
    """Probability that two different requests have different answers."""
    n = sum(expected.values())
    if n < 2:
        return 0.0
    return 1.0 - sum(count * (count - 1) for count in expected.values()) / (n * (n - 1))


def _judged(matches: Mapping[Match, int], faults: int, judged: int) -> tuple[Status, str]:
    foreign, damaged = matches[Match.FOREIGN], matches[Match.DAMAGED]
    if faults:
        said = [f"{foreign} of another request"] if foreign else []
        said += [f"{damaged} changed beyond a near-tie"] if damaged else []
        return Status.FAILED, f"{faults} of {judged} answers wrong: {', '.join(said)}"
    if not judged:
        return Status.INCONCLUSIVE, "no request has an answer that tells it from the others"
    if unclear := matches[Match.UNCLEAR]:
        return Status.INCONCLUSIVE, f"{unclear} answers changed, and it is unclear why"
    return Status.PASSED, f"{judged} concurrent requests got their own answers"


def _example(asked: Asked, kind: Match) -> str:
    said = asked.reply.text
    cut = said if len(said) <= LENGTH else said[:LENGTH] + "…"
    marked = " and the id of another request" if asked.reply.misrouted else ""
    return f"{kind.value}: expected {asked.expected!r}, got {cut!r}{marked}"
