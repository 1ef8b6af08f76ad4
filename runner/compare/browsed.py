"""All questions of two runs as the browser in compare.html lists them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner.compare.changed_answers import Changed
from runner.compare.changes import Kind
from runner.compare.scores import Metric
from runner.compare.shown import places, shown_answers, tally
from runner.evidence.degenerate import named
from runner.evidence.draws import answers_of
from runner.evidence.outlines import TEXTS
from runner.evidence.pairing import Pairing
from runner.evidence.samples import Sample, numbered, stopped
from runner.evidence.stored import completed, row
from runner.evidence.unparsable import unparsable
from runner.language import N_, gettext
from runner.present.browser import (
    MOST_IMAGES,
    Browser,
    Choice,
    Column,
    Detail,
    Flag,
    Listing,
    Side,
    browser,
)
from runner.present.pictures import album

SAME, ONLY_A, ONLY_B = N_("same answer"), N_("only in A"), N_("only in B")
# Name, meaning, and whether it stands beside a sample's name.
FLAGS = (
    (N_("flipped"), N_("the score changed"), False),
    (N_("worse"), N_("B scores worse than A"), True),
    (N_("better"), N_("B scores better than A"), True),
    (N_("wrong in A"), N_("A's answer does not score"), False),
    (N_("wrong in B"), N_("B's answer does not score"), False),
    (
        N_("cut"),
        N_("an answer stopped at the token limit, or a prompt was left-truncated"),
        True,
    ),
    (N_("unparsable"), N_("lm-eval could not parse an answer, or guessed one"), True),
    (N_("degenerate"), N_("an answer repeats itself, is garbled or empty, or has a NaN"), True),
)


@dataclass(frozen=True)
class Question:
    """A question of one or both runs, its leading metric, and how its answers differ, if so.

    `share` says that its score is a share of what is right, from 0 to 1.
    """

    first: Sample | None
    second: Sample | None
    metric: str
    changed: Changed | None
    share: bool

    @property
    def either(self) -> Sample:
        sample = self.first or self.second
        assert sample is not None
        return sample


def all_questions(
    asked: Pairing, found: Sequence[Changed], flips: Sequence[Changed], leading: dict[str, Metric]
) -> tuple[Question, ...]:
    """Return every question once: flips first, then other differences, then equal answers.

    `leading` has the metric that decides about each task, unless a sample has no score in it.
    """
    flipped = {id(each) for each in flips}
    ordered = [*flips, *(each for each in found if id(each) not in flipped)]
    differing = {id(each.first) for each in ordered}

    def metric(sample: Sample) -> str:
        known = leading.get(sample.task)
        if known is not None and known.metric in sample.scores:
            return known.metric
        return next(iter(sample.scores), "")

    questions = [
        Question(each.first, each.second, each.metric or metric(each.first), each, True)
        for each in ordered
    ]
    pairs = [*asked.pairs, *((each.first, each.second) for each in asked.unpaired)]
    for first, second in pairs:
        sample = first or second
        if sample is not None and id(sample) not in differing:
            questions.append(Question(first, second, metric(sample), None, True))

    def scale(each: Question) -> tuple[str, str]:
        known = leading.get(each.either.task)
        return (known.evaluation if known else each.either.task, each.metric)

    descending = {name for name, each in leading.items() if not each.higher_is_better}
    others = {
        scale(each)
        for each in questions
        if each.either.task in descending or not all(0 <= score <= 1 for score in _finite(each))
    }
    return tuple(
        replace(each, share=False) if scale(each) in others else each for each in questions
    )


def _finite(question: Question) -> list[float]:
    scores = [_score(question, each) for each in (question.first, question.second)]
    return [score for score in scores if score is not None and math.isfinite(score)]


def browsed(questions: Sequence[Question], images: Sequence[Path]) -> Browser | None:
    """The browser of all questions; None if there are none."""
    if not questions:
        return None
    wanted = [
        digest
        for each in questions
        for sample in (each.first, each.second)
        if sample is not None
        for digest in sample.image_hashes
    ]
    return browser(
        _listing(questions),
        lambda: _details(questions),
        album(images, wanted, MOST_IMAGES),
    )


def _listing(questions: Sequence[Question]) -> Listing:
    tasks = tuple(dict.fromkeys(each.either.task for each in questions))
    task_of = {name: place for place, name in enumerate(tasks)}
    found = [_cause(each) for each in questions]
    causes = tuple(
        name for name in (*(k.value for k in Kind), SAME, ONLY_A, ONLY_B) if name in found
    )
    cause_of = {name: place for place, name in enumerate(causes)}
    scores = [[_score(each, sample) for each, sample in _sides(questions, n)] for n in (0, 1)]
    return Listing(
        tasks=tasks,
        values={
            "task": [task_of[each.either.task] for each in questions],
            "doc": [each.either.doc_id for each in questions],
            "repeat": [0] * len(questions),
            "flags": [_flags(each) for each in questions],
            "first": scores[0],
            "second": scores[1],
            "first_right": [_right(each, each.first) for each in questions],
            "second_right": [_right(each, each.second) for each in questions],
            "cause": [cause_of[name] for name in found],
            "apart": [each.changed.change.apart if each.changed else None for each in questions],
        },
        columns=(
            Column("first", "A", "2.6rem", 2, right="first_right"),
            Column("second", "B", "2.6rem", 2, right="second_right"),
            Column("cause", gettext("Cause"), "minmax(0, 1fr)"),
            Column("apart", gettext("Nats"), "3.4rem", 2, wide=True),
        ),
        choices=(
            Choice("task", gettext("Subject"), tasks),
            Choice("cause", gettext("Cause"), causes, labels=tuple(map(gettext, causes))),
        ),
        flags=tuple(
            Flag(name, gettext(meaning), beside, label=gettext(name))
            for name, meaning, beside in FLAGS
        ),
        letters=("A", "B"),
    )


def _sides(questions: Sequence[Question], side: int) -> Iterator[tuple[Question, Sample | None]]:
    for each in questions:
        yield each, (each.first, each.second)[side]


def _score(question: Question, sample: Sample | None) -> float | None:
    return None if sample is None else sample.scores.get(question.metric)


def _right(question: Question, sample: Sample | None) -> bool | None:
    """Whether the answer scores; None if there is none, or its score is not a share."""
    score = _score(question, sample)
    return None if score is None or not question.share else score > 0


def _cause(each: Question) -> str:
    if each.changed is not None:
        return each.changed.change.kind.value
    if each.second is None:
        return ONLY_A
    return SAME if each.first is not None else ONLY_B


def _flags(each: Question) -> int:
    samples = [sample for sample in (each.first, each.second) if sample is not None]
    answers = [answer for sample in samples for answer in answers_of(sample)]
    better = (each.changed.better or 0.0) if each.changed is not None else 0.0
    given = (
        better != 0,
        better < 0,
        better > 0,
        _right(each, each.first) is False,
        _right(each, each.second) is False,
        any(answer.truncated or stopped(answer) for answer in answers),
        any(map(unparsable, answers)),
        any(answer.degenerate for answer in answers),
    )
    return sum(1 << place for place, yes in enumerate(given) if yes)


def _details(questions: Sequence[Question]) -> Iterator[tuple[int, Detail]]:
    """The details of all questions with their places, in the order of A's file, then B's."""
    ordered = sorted(
        enumerate(questions), key=lambda each: (each[1].first is None, row(each[1].either))
    )
    whole = completed((_shown(each) for _, each in ordered), TEXTS)
    for (place, each), answers in zip(ordered, whole, strict=True):
        yield place, _detail(each, answers)


def _shown(each: Question) -> tuple[Sample, ...]:
    """The answer of each run that has the question."""
    if each.changed is not None:
        return shown_answers(each.changed)
    return tuple(
        answers_of(question)[0] for question in (each.first, each.second) if question is not None
    )


def _detail(each: Question, answers: Sequence[Sample]) -> Detail:
    first, second = each.first, each.second
    shown = places(each.changed) if each.changed is not None else (0, 0)
    either, other = answers[0], answers[-1]
    read = iter(answers)
    return Detail(
        prompt=either.prompt,
        target=either.target,
        images=either.image_hashes,
        sides=tuple(
            None if sample is None else _side(each, sample, place, next(read))
            for sample, place in zip((first, second), shown, strict=True)
        ),
        second_prompt=other.prompt if other.prompt != either.prompt else None,
        second_images=other.image_hashes if other.image_hashes != either.image_hashes else (),
        facts=_facts(each),
    )


def _side(each: Question, question: Sample, place: int, answer: Sample) -> Side:
    """The `answer` at this place of all to the question."""
    answers = answers_of(question)
    facts = []
    if len(answers) > 1:
        facts.append(
            gettext("answer {number} of {answers}", number=place + 1, answers=len(answers))
        )
    if count := len(answer.token_ids):
        facts.append(gettext("{count} tokens", count=count))
    if answer.finish_reasons and not answer.choice_logprobs:
        facts.append(gettext(", ").join(dict.fromkeys(answer.finish_reasons)))
    if answer.truncated:
        facts.append(gettext("prompt left-truncated to max_model_len"))
    if answer.guessed:
        facts.append(gettext("lm-eval guessed an answer"))
    if answer.degenerate:
        kinds = named(answer.degenerate)
        facts.append(gettext("degenerate: {kinds}", kinds=kinds))
    scored = answer.choice_logprobs
    parsed = len(answer.responses) == 1 and not scored and answer.filtered != answer.responses[0]
    return Side(
        responses=() if scored else answer.responses,
        reasoning=answer.reasoning,
        parsed={"": answer.filtered} if parsed else {},
        scores=dict(answer.scores),
        choices=scored,
        numbered=numbered(answer),
        facts=tuple(facts),
        right=_right(each, answer),
    )


def _facts(each: Question) -> tuple[str, ...]:
    """The cause, and where and how far the answers diverge."""
    if each.changed is None:
        return ()
    change = each.changed.change
    facts = [gettext(change.kind.value)]
    tallies = [tally(each.changed, sample) for sample in (each.changed.first, each.changed.second)]
    if all(tallies):
        facts.append(" → ".join(tallies))
    facts += change.places
    if change.apart is not None:
        facts.append(
            gettext("largest shift of a log-probability {shift:.2g} nats", shift=change.apart)
        )
    return (" · ".join(facts),)
