"""Compares sampled answers by what does not depend on a single draw: lengths and shares.

Texts of sampled answers differ by chance. What can be compared are distributions, within each
question, because answers to one question are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import quantiles
from typing import Annotated

from pydantic import Field

from runner.compare.scores import Metric, Pair
from runner.evidence.draws import answers_of, same_draws
from runner.evidence.questions import answers
from runner.evidence.samples import Sample
from runner.evidence.unparsable import unparsable
from runner.language import N_, gettext
from runner.stats.exchange import exchanged, ranks_exchanged
from runner.stats.several import holm

# All answers to each question.
Asked = Sequence[Sequence[Sample]]
# The usual reason for the end of an answer, and the one that has a plainer name.
USUAL, LIMIT = "stop", "length"
TOKENS, CHARACTERS = "tokens", "characters"
LENGTH_IN = {
    TOKENS: N_("length in tokens, median"),
    CHARACTERS: N_("length in characters, median"),
}
# Properties by name.
STOPPED = N_("stopped at the token limit")
CUT_REASONING = N_("cut within the reasoning")
UNPARSABLE, DEGENERATE, CORRECT = N_("unparsable"), N_("degenerate"), N_("correct")


@dataclass(frozen=True)
class Draws:
    """Sampled answers of both runs to the same questions.

    `seeded` pairs of answers were drawn with the same seeds, of which `alike` have equal texts.
    """

    first: int
    second: int
    seeded: int
    alike: int


@dataclass(frozen=True)
class Lengths:
    """Answer lengths: the quartiles of both runs, and a two-sided p for a difference.

    `unit` is `tokens`, or `characters` if a run did not record tokens.
    """

    unit: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    p: float

    @property
    def label(self) -> str:
        """Return `length in tokens, median`, as tables name the row."""
        return gettext(LENGTH_IN[self.unit])


@dataclass(frozen=True)
class Share:
    """Numbers of answers with a property, and a two-sided p for a difference.

    The property's `name` is English in every language, its `label` is for people; `end` is the
    finish reason that it names, if it does. `p` is None for correct answers: the comparison of the
    scores tests them.
    """

    name: str
    first: int
    second: int
    p: float | None
    end: Annotated[str, Field(exclude=True)] = ""

    @property
    def label(self) -> str:
        if self.end:
            return gettext("finish reason {reason}", reason=self.end)
        return gettext(self.name)


@dataclass(frozen=True)
class Distribution:
    """Sampled answers to a task in both runs, `answers` in number. All p are Holm-adjusted."""

    task: str
    questions: int
    answers: tuple[int, int]
    lengths: Lengths
    shares: tuple[Share, ...]


def draws(sampled: Sequence[Pair]) -> Draws | None:
    """Return how many of the sampled answers are alike; None without sampled answers."""
    if not sampled:
        return None
    seeded = [draw for pair in sampled for draw in same_draws(*pair)]
    return Draws(
        first=sum(answers(one) for one, _ in sampled),
        second=sum(answers(other) for _, other in sampled),
        seeded=len(seeded),
        alike=sum(_texts(one) == _texts(other) for one, other in seeded),
    )


def distributions(metrics: Sequence[Metric], sampled: Sequence[Pair]) -> tuple[Distribution, ...]:
    """Compare the sampled answers to each task, by its leading metric."""
    found = [
        _distribution(metric, own)
        for metric in metrics
        if metric.leading and (own := [pair for pair in sampled if metric.covers(pair[0])])
    ]
    return _adjusted(found)


def _distribution(metric: Metric, pairs: Sequence[Pair]) -> Distribution:
    sides = (
        [answers_of(first) for first, _ in pairs],
        [answers_of(second) for _, second in pairs],
    )
    every = [answer for side in sides for own in side for answer in own]
    ends = sorted({end for answer in every for end in answer.finish_reasons} - {USUAL})
    properties: list[tuple[str, Callable[[Sample], bool]]] = [
        (CUT_REASONING, lambda answer: answer.cut_thinking > 0),
        (UNPARSABLE, unparsable),
        (DEGENERATE, lambda answer: bool(answer.degenerate)),
    ]
    shares = [
        *(_ends(end, sides) for end in ends),
        *(_share(name, sides, has) for name, has in properties),
    ]
    if all(answer.scores.get(metric.metric) in (0, 1) for answer in every):
        right = float(metric.higher_is_better)
        correct = _share(CORRECT, sides, lambda answer: answer.scores[metric.metric] == right)
        shares.insert(0, replace(correct, p=None))
    return Distribution(
        task=metric.task,
        questions=len(pairs),
        answers=(sum(map(len, sides[0])), sum(map(len, sides[1]))),
        lengths=_lengths(sides),
        shares=tuple(each for each in shares if each.first or each.second),
    )


def _share(name: str, sides: tuple[Asked, Asked], has: Callable[[Sample], bool]) -> Share:
    first, second = ([[float(has(answer)) for answer in own] for own in side] for side in sides)
    counts = (round(sum(map(sum, first))), round(sum(map(sum, second))))
    return Share(name, *counts, p=exchanged(first, second))


def _ends(end: str, sides: tuple[Asked, Asked]) -> Share:
    """The answers with this finish reason."""
    if end == LIMIT:
        return _share(STOPPED, sides, partial(_ended, end))
    return replace(_share(f"finish reason {end}", sides, partial(_ended, end)), end=end)


def _ended(end: str, answer: Sample) -> bool:
    return end in answer.finish_reasons


def _lengths(sides: tuple[Asked, Asked]) -> Lengths:
    """Lengths in tokens where both runs have them."""
    tokens = [[[_tokens(answer) for answer in own] for own in side] for side in sides]
    known = all(any(map(any, side)) for side in tokens)
    first, second = (
        tokens
        if known
        else [[[_characters(answer) for answer in own] for own in side] for side in sides]
    )
    quartiles = [_quartiles([length for own in side for length in own]) for side in (first, second)]
    unit = TOKENS if known else CHARACTERS
    return Lengths(unit, quartiles[0], quartiles[1], ranks_exchanged(first, second))


def _tokens(answer: Sample) -> int:
    return sum(answer.answer_tokens) or len(answer.token_ids)


def _characters(answer: Sample) -> int:
    assert answer.stored is not None
    return answer.stored.characters


def _texts(answer: Sample) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return answer.reasoning, answer.responses


def _quartiles(values: Sequence[int]) -> tuple[float, float, float]:
    if len(values) < 2:
        return (float(values[0]),) * 3
    low, median, high = quantiles(values, n=4, method="inclusive")
    return (low, median, high)


def _adjusted(found: Sequence[Distribution]) -> tuple[Distribution, ...]:
    """All p, corrected together."""
    tested = [p for task in found for p in (task.lengths.p, *(each.p for each in task.shares))]
    corrected = iter(holm([p for p in tested if p is not None]))
    return tuple(
        replace(
            task,
            lengths=replace(task.lengths, p=next(corrected)),
            shares=tuple(
                each if each.p is None else replace(each, p=next(corrected)) for each in task.shares
            ),
        )
        for task in found
    )
