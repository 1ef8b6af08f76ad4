"""The texts of answers that differ, as reports and compare.json show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.compare.changed_answers import BRIEF, CARDS, LONGEST, SHOWN, Changed
from runner.compare.changes import Change, Kind
from runner.evidence.draws import answers_of
from runner.evidence.outlines import TEXTS
from runner.evidence.samples import Sample, numbered
from runner.evidence.stored import completed, row
from runner.language import gettext
from runner.present.formats import clip, number

# Longest answer in the list of all changes.
SHORT = 200


@dataclass(frozen=True)
class Answer:
    """One answer of one run; long texts are cut in their middle.

    If the question was asked several times, this is answer `place` (from 1) of all `answers`, and
    `tally` sums up their scores: `6 of 8`.
    """

    responses: tuple[str, ...]
    filtered: str
    scores: Mapping[str, float]
    finish_reasons: tuple[str, ...]
    prompt_tokens: tuple[int, ...]
    tokens: int
    choice_logprobs: tuple[float, ...]
    place: int
    answers: int
    tally: str

    @property
    def told(self) -> str:
        """Return the answer as text: the responses, or the most likely choice."""
        return _told(self)


@dataclass(frozen=True)
class ScoredChoice:
    """The log-likelihoods of a choice in both runs, None where it was not scored.

    `number` counts from 0; None if it is not known.
    """

    number: int | None
    first: float | None
    second: float | None


@dataclass(frozen=True)
class Shown:
    """A question whose score changed, with an answer of each run.

    `second_prompt` and `second_images` are set only if they differ.
    """

    task: str
    doc_id: int
    filter: str
    prompt: str
    second_prompt: str | None
    target: str
    images: tuple[str, ...]
    second_images: tuple[str, ...]
    first: Answer
    second: Answer
    change: Change
    better: float

    @property
    def tallies(self) -> str:
        """Return `6 of 8 → 2 of 8`; empty if both runs asked the question once."""
        return _tallies(self.first.tally, self.second.tally)

    @property
    def choices(self) -> tuple[ScoredChoice, ...]:
        """Return the scored choices of both runs, by number where both numbers are known."""
        sides = (self.first, self.second)
        numbers = [choice_numbers(side) for side in sides]
        unknown = None in numbers
        first, second = (
            dict(
                zip(
                    range(len(side.choice_logprobs)) if unknown or own is None else own,
                    side.choice_logprobs,
                    strict=True,
                )
            )
            for own, side in zip(numbers, sides, strict=True)
        )
        return tuple(
            ScoredChoice(None if unknown else place, first.get(place), second.get(place))
            for place in sorted({*first, *second})
        )


@dataclass(frozen=True)
class ListedChange:
    """One line for a question whose answer differs; `tallies` as in Shown."""

    task: str
    doc_id: int
    filter: str
    kind: Kind
    better: float | None
    token: int | None
    apart: float | None
    tallies: str
    first: str
    second: str


@dataclass(frozen=True)
class Quoted:
    """All questions that differ, in their order, and the flips that have a card on the page."""

    shown: tuple[Shown, ...]
    brief: tuple[Shown, ...]
    changes: tuple[ListedChange, ...]


def quoted(found: Sequence[Changed], flips: Sequence[Changed]) -> Quoted:
    """Read the texts of the questions that differ; `flips` are some of them."""
    cards = (
        *((each, LONGEST) for each in flips[:SHOWN]),
        *((each, BRIEF) for each in flips[SHOWN:CARDS]),
    )
    lengths = {id(each): longest for each, longest in cards}
    lines: dict[int, ListedChange] = {}
    shown: dict[int, Shown] = {}
    in_file = sorted(found, key=lambda each: row(each.first))
    whole = completed(map(shown_answers, in_file), TEXTS)
    for each, (one, other) in zip(in_file, whole, strict=True):
        lines[id(each)] = _listed(each, one, other)
        if id(each) in lengths:
            shown[id(each)] = _shown(each, one, other, lengths[id(each)])
    ordered = [shown[id(each)] for each, _ in cards]
    return Quoted(
        tuple(ordered[:SHOWN]), tuple(ordered[SHOWN:]), tuple(lines[id(each)] for each in found)
    )


def _shown(each: Changed, one: Sample, other: Sample, longest: int) -> Shown:
    """The question with texts of at most about `longest` characters."""
    first, second = each.first, each.second
    ours, theirs = places(each)
    return Shown(
        task=first.task,
        doc_id=first.doc_id,
        filter=first.filter,
        prompt=clip(one.prompt, longest),
        second_prompt=clip(other.prompt, longest) if other.prompt != one.prompt else None,
        target=clip(one.target, longest),
        images=first.image_hashes,
        second_images=second.image_hashes if second.image_hashes != first.image_hashes else (),
        first=_answer(each, first, one, ours, longest),
        second=_answer(each, second, other, theirs, longest),
        change=each.change,
        better=each.better or 0.0,
    )


def _listed(each: Changed, one: Sample, other: Sample) -> ListedChange:
    """The line of a question, with the beginning and the end of its answers."""
    first, second = each.first, each.second
    return ListedChange(
        task=first.task,
        doc_id=first.doc_id,
        filter=first.filter,
        kind=each.change.kind,
        better=each.better,
        token=each.change.token,
        apart=each.change.apart,
        tallies=_tallies(tally(each, first), tally(each, second)),
        first=clip(_told(one), SHORT),
        second=clip(_told(other), SHORT),
    )


def shown_answers(each: Changed) -> tuple[Sample, Sample]:
    """Return the answers that are shown."""
    ours, theirs = places(each)
    return answers_of(each.first)[ours], answers_of(each.second)[theirs]


def places(each: Changed) -> tuple[int, int]:
    """Return the indices of the shown answers: those that make the change of the mean plainest."""
    sides = answers_of(each.first), answers_of(each.second)
    scores = [[answer.scores.get(each.metric, 0.0) for answer in side] for side in sides]
    rises = each.second.scores.get(each.metric, 0.0) - each.first.scores.get(each.metric, 0.0)
    ends = (min, max) if rises > 0 else (max, min)
    first, second = (own.index(end(own)) for own, end in zip(scores, ends, strict=True))
    return (first, second) if rises else (0, 0)


def _answer(each: Changed, question: Sample, sample: Sample, place: int, longest: int) -> Answer:
    return Answer(
        responses=tuple(clip(response, longest) for response in sample.responses),
        filtered=clip(sample.filtered, longest),
        scores=sample.scores,
        finish_reasons=sample.finish_reasons,
        prompt_tokens=sample.prompt_tokens,
        tokens=len(sample.token_ids),
        choice_logprobs=sample.choice_logprobs,
        place=place + 1,
        answers=len(answers_of(question)),
        tally=tally(each, question),
    )


def tally(each: Changed, question: Sample) -> str:
    """Return `6 of 8` for scores of 0 and 1, else `0.42 (mean of 8)`.

    Empty if both runs asked the question once.
    """
    scores = [
        answer.scores[each.metric]
        for answer in answers_of(question)
        if each.metric in answer.scores
    ]
    if not scores or len(answers_of(each.first)) == len(answers_of(each.second)) == 1:
        return ""
    if all(score in (0, 1) for score in scores):
        return gettext("{right:.0f} of {answers}", right=sum(scores), answers=len(scores))
    mean = number(question.scores.get(each.metric), 3)
    return gettext("{score} (mean of {answers})", score=mean, answers=len(scores))


def _tallies(first: str, second: str) -> str:
    return f"{first} → {second}" if first and second else ""


def choice_numbers(answer: Answer | Sample) -> Sequence[int] | None:
    """Return the numbers of the choices in `choice_logprobs`; None if they are not known.

    A choice whose log-likelihood is not finite is missing there, but not among lm-eval's responses,
    such as `(-inf, False)`.
    """
    count = len(answer.choice_logprobs)
    if len(answer.responses) > count:
        scored = [place for place, text in enumerate(answer.responses) if _finite(text)]
        return scored if len(scored) == count else None
    return range(count) if numbered(answer) else None


def _finite(response: str) -> bool:
    """Whether a scored choice has a log-likelihood: `(-1.5, True)` or `-1.5`."""
    try:
        return math.isfinite(float(response.strip("()").partition(",")[0]))
    except ValueError:
        return False


def _told(answer: Answer | Sample) -> str:
    if not answer.choice_logprobs:
        return "\n".join(answer.responses)
    values, numbers = answer.choice_logprobs, choice_numbers(answer)
    place = max(range(len(values)), key=values.__getitem__)
    if numbers is None:
        return gettext("choice unknown ({value:.3f})", value=values[place])
    return gettext("choice {number} ({value:.3f})", number=numbers[place], value=values[place])
