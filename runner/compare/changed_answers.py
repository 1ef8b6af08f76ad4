"""Questions with different answers: counts by kind, and which of them a page shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from runner.compare.changes import Change, Kind, explain
from runner.compare.scores import Metric
from runner.evidence.pairing import Pairing, Reason
from runner.evidence.samples import Sample
from runner.evidence.stored import completed

# Flipped answers shown in full on the page, and all that have a card: further ones have shorter
# texts. The browser lists every question; two thousand cards would take seconds to open.
SHOWN, CARDS = 60, 240
# Keeps the page readable and small.
LONGEST, BRIEF = 4000, 600
# What is read of each token.
TOKENS = ("token_ids", "logprobs", "margins")


@dataclass(frozen=True)
class Changed:
    """A question whose answer, score or prompt differs between the runs.

    `paired` is False if the prompts differ. `better` is the improvement of its score in `metric`,
    the leading metric of its task; None without such a score. If the question was asked several
    times, its score is the mean over all answers.
    """

    first: Sample
    second: Sample
    change: Change
    better: float | None
    metric: str
    paired: bool

    @property
    def flipped(self) -> bool:
        return bool(self.better)


@dataclass(frozen=True)
class KindCount:
    """Counts for one kind: all answers, and those that got better or worse."""

    kind: Kind
    n: int
    better: int
    worse: int


@dataclass(frozen=True)
class UnpairedCount:
    """The number of questions not paired for one reason."""

    reason: Reason
    n: int


def asked_once(pairing: Pairing, metrics: Sequence[Metric]) -> Pairing:
    """Return each question once: under its leading metric's filter, else its first filter."""
    first_filters: dict[str, list[str]] = {}
    for sample in _every(pairing):
        known = first_filters.setdefault(sample.task, [])
        if sample.filter not in known:
            known.append(sample.filter)
    leading = [metric for metric in metrics if metric.leading]
    chosen = {
        task: next((m.filter for m in leading if task in m.leaves and m.filter in known), known[0])
        for task, known in first_filters.items()
    }

    def one(sample: Sample | None) -> bool:
        return sample is not None and sample.filter == chosen[sample.task]

    return Pairing(
        tuple(pair for pair in pairing.pairs if one(pair[0])),
        tuple(each for each in pairing.unpaired if one(each.first or each.second)),
    )


def changed(
    asked: Pairing,
    metrics: Sequence[Metric],
    drawn: Collection[str],
    measure: Callable[[Sample, Sample], None],
) -> tuple[Changed, ...]:
    """Return all questions that differ: flips first, near-ties last, then by largest shift.

    Answers to the `drawn` tasks are sampled at random. They follow the size of the change of their
    mean score, because a shift of their log-probabilities is chance. All other pairs are passed to
    `measure`, with their tokens.
    """
    leading = [metric for metric in metrics if metric.leading]
    found = []
    both = list(_both(asked))
    # Where answers are sampled, tokens are not needed.
    needed = [() if sampled(one, drawn) else (one, other) for one, other, _ in both]
    for (first, second, reason), read in zip(both, completed(needed, TOKENS), strict=True):
        if read and reason is None:
            measure(*read)
        one, other = read or (first, second)
        change = explain(one, other, reason, sampled=not read)
        if change is not None:
            moves = ((metric.moved(first, second), metric.metric) for metric in leading)
            better, metric = next((move for move in moves if move[0] is not None), (None, ""))
            found.append(Changed(first, second, change, better, metric, reason is None))
    return tuple(sorted(found, key=_rank))


def sampled(question: Sample, drawn: Collection[str]) -> bool:
    """Return whether the answers to a question are sampled at random; scored choices never are."""
    return question.task in drawn and not question.choice_logprobs


def _rank(each: Changed) -> tuple[bool, bool, float, float]:
    moved = abs(each.better or 0.0) if each.change.apart is None else 0.0
    near = each.change.kind is Kind.NEAR_TIE
    return (not each.flipped, near, -(each.change.apart or 0.0), -moved)


def flipped(found: Sequence[Changed]) -> tuple[Changed, ...]:
    """Return all flips, alternating between subjects and directions; near-ties come last.

    Sampled answers of a subject stay in the order of their changes, whatever the direction: a small
    change is chance.
    """
    ranks: Counter[tuple[str, bool, bool]] = Counter()
    ranked = []
    for place, each in enumerate(found):
        if each.flipped:
            near = each.change.kind is Kind.NEAR_TIE
            better = (each.better or 0) > 0 and each.change.kind is not Kind.DRAWN
            group = (each.first.task, better, near)
            ranked.append((near, ranks[group], place))
            ranks[group] += 1
    return tuple(found[place] for _, _, place in sorted(ranked))


def kinds(found: Iterable[Changed]) -> tuple[KindCount, ...]:
    """Count the changes by kind, in the order of `Kind`."""
    all_of = list(found)
    return tuple(
        KindCount(
            kind,
            len(these),
            sum((each.better or 0) > 0 for each in these),
            sum((each.better or 0) < 0 for each in these),
        )
        for kind in Kind
        if (these := [each for each in all_of if each.change.kind is kind])
    )


def unpaired(asked: Pairing) -> tuple[UnpairedCount, ...]:
    reasons = [each.reason for each in asked.unpaired]
    return tuple(UnpairedCount(each, reasons.count(each)) for each in Reason if each in reasons)


def _both(asked: Pairing) -> Iterator[tuple[Sample, Sample, Reason | None]]:
    for first, second in asked.pairs:
        yield first, second, None
    for each in asked.unpaired:
        if each.first is not None and each.second is not None:
            yield each.first, each.second, each.reason


def _every(pairing: Pairing) -> Iterator[Sample]:
    for first, _ in pairing.pairs:
        yield first
    for each in pairing.unpaired:
        for sample in (each.first, each.second):
            if sample is not None:
                yield sample
