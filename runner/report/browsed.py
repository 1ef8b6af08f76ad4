"""All samples of a run as the browser in report.html lists them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.evidence.degenerate import named
from runner.evidence.outlines import BRIEF, Texts, read_texts
from runner.evidence.samples import Sample, asked_for, numbered, stopped, top_choice
from runner.evidence.unparsable import unparsable
from runner.language import gettext
from runner.outcome import Outcome, TaskOutcome
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
from runner.report.right import scored
from runner.rundir import RunDirectory
from runner.verdict import Verdict


@dataclass
class _Asked:
    """One sample with its outlines under all filters, and their places in the file."""

    place: int
    outline: Sample
    filters: list[Sample] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    score: float | None = None
    right: bool | None = None
    main: Sample | None = None


def browsed(
    run: RunDirectory,
    outcome: Outcome,
    verdict: Verdict,
    outlines: Sequence[Sample],
    limited: bool = True,
) -> Browser | None:
    """The browser of a run's samples; None if it has none.

    `outlines` are all rows of samples.parquet, in its order.
    """
    if not outlines:
        return None
    asked = _once(outlines)
    for task in outcome.tasks:
        _judge(task, verdict, asked)
    wanted = _first_wrong(asked)
    parsed = _parsed_later(run.samples, asked)
    return browser(
        _listing(asked),
        lambda: enumerate(_details(run.samples, asked, len(outlines), parsed)),
        album([run.images], wanted, MOST_IMAGES if limited else None),
        limited,
    )


def _once(outlines: Sequence[Sample]) -> list[_Asked]:
    """One entry for each sample, whatever the number of its filters."""
    found: dict[tuple[str, str, int, int], _Asked] = {}
    for place, each in enumerate(outlines):
        key = (each.evaluation, each.task, each.doc_id, each.repeat)
        if key not in found:
            found[key] = _Asked(place, each)
        found[key].filters.append(each)
        found[key].places.append(place)
    return list(found.values())


def _judge(task: TaskOutcome, verdict: Verdict, asked: Sequence[_Asked]) -> None:
    """Set score and main filter of the task's samples."""
    mine = {id(each) for each in asked_for(task, [each.outline for each in asked])}
    own = [each for each in asked if id(each.outline) in mine]
    for each, found in zip(own, scored(task, verdict, [each.filters for each in own]), strict=True):
        each.main, each.score, each.right = found.sample, found.score, found.right


def _listing(asked: Sequence[_Asked]) -> Listing:
    tasks = tuple(dict.fromkeys(each.outline.task for each in asked))
    groups = tuple(dict.fromkeys(each.outline.evaluation for each in asked))
    task_of = {name: place for place, name in enumerate(tasks)}
    group_of = {name: place for place, name in enumerate(groups)}
    samples = [each.main or each.outline for each in asked]
    return Listing(
        tasks=tasks,
        values={
            "task": [task_of[each.outline.task] for each in asked],
            "group": [group_of[each.outline.evaluation] for each in asked],
            "doc": [each.outline.doc_id for each in asked],
            "repeat": [each.outline.repeat for each in asked],
            "flags": [_flags(each) for each in asked],
            "score": [each.score for each in asked],
            "right": [each.right for each in asked],
            "answer": [_answer(sample) for sample in samples],
            "target": [_short(sample.target) for sample in samples],
            "tokens": [len(sample.token_ids) or None for sample in samples],
            "seconds": [max(sample.seconds, default=None) for sample in samples],
        },
        columns=(
            Column("score", gettext("Score"), "3rem", 2, right="right"),
            Column("answer", gettext("Answer"), "minmax(0, 1fr)"),
            Column("target", gettext("Correct"), "minmax(0, .8fr)"),
            Column("tokens", gettext("Tokens"), "4rem", 0, wide=True),
            Column("seconds", gettext("Seconds"), "4.2rem", 2, wide=True),
        ),
        choices=(
            Choice("group", gettext("Task"), groups),
            Choice("task", gettext("Subject"), tasks),
        ),
        flags=(
            Flag(
                "wrong",
                gettext("the answer does not have the best score"),
                shown=False,
                label=gettext("wrong"),
            ),
            Flag(
                "cut",
                gettext("the answer stopped at the token limit, or the prompt was left-truncated"),
                label=gettext("cut"),
            ),
            Flag(
                "unparsable",
                gettext("lm-eval could not parse an answer, or guessed one"),
                label=gettext("unparsable"),
            ),
            Flag(
                "degenerate",
                gettext("the answer repeats itself, is garbled or empty, or has a NaN"),
                label=gettext("degenerate"),
            ),
        ),
    )


def _flags(each: _Asked) -> int:
    sample = each.main or each.outline
    cut = sample.truncated or stopped(sample)
    given = (each.right is False, cut, unparsable(sample), bool(sample.degenerate))
    return sum(1 << place for place, yes in enumerate(given) if yes)


def _answer(sample: Sample) -> str:
    if sample.choice_logprobs:
        return top_choice(sample)
    return _short(sample.filtered)


def _short(text: str, longest: int = 60) -> str:
    """The beginning of a text in one line."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _first_wrong(asked: Sequence[_Asked]) -> list[str]:
    """Hashes of all images, in the order in which they should be shown if not all fit."""
    order = sorted(asked, key=lambda each: each.right is not False)
    return list(dict.fromkeys(digest for each in order for digest in each.outline.image_hashes))


def _parsed_later(file: Path, asked: Sequence[_Asked]) -> dict[int, str | None]:
    """Whole parsed texts that outlines have cut, by place, except those of first filters.

    Further filters have their rows later in the file. A text that is the answer itself is None: it
    is not shown, and may be long.
    """
    wanted = {
        place
        for each in asked
        for place, sample in zip(each.places[1:], each.filters[1:], strict=True)
        if len(sample.filtered) >= BRIEF
    }
    if not wanted:
        return {}
    return {
        place: _unlike(texts.filtered, texts.responses)
        for place, texts in enumerate(read_texts(file))
        if place in wanted
    }


def _unlike(parsed: str, responses: Sequence[str]) -> str | None:
    """What was parsed, without spaces around it; None if it is the answer itself."""
    text = parsed.strip()
    return None if [text] == [each.strip() for each in responses] else text


def _details(
    file: Path, asked: Sequence[_Asked], rows: int, parsed: Mapping[int, str | None]
) -> Iterator[Detail]:
    by_place: list[_Asked | None] = [None] * rows
    for each in asked:
        by_place[each.place] = each
    for each_or_none, texts in zip(by_place, read_texts(file), strict=True):
        if each_or_none is not None:
            yield _detail(each_or_none, texts, parsed)


def _detail(each: _Asked, texts: Texts, parsed: Mapping[int, str | None]) -> Detail:
    sample = each.outline
    side = Side(
        responses=() if sample.choice_logprobs else texts.responses,
        reasoning=texts.reasoning,
        parsed=_parsed(each, texts, parsed),
        scores=_scores(each.filters),
        choices=sample.choice_logprobs,
        numbered=numbered(sample),
        facts=_facts(sample),
        right=each.right,
    )
    return Detail(texts.prompt, texts.target, sample.image_hashes, (side,))


def _parsed(each: _Asked, texts: Texts, later: Mapping[int, str | None]) -> dict[str, str]:
    """What was parsed from the answer under each filter, unless it is the answer itself."""
    if len(texts.responses) != 1 or each.outline.choice_logprobs:
        return {}
    found = {}
    for place, sample in zip(each.places, each.filters, strict=True):
        if place in later:
            text = later[place]
        else:
            short = texts.filtered if place == each.place else sample.filtered
            text = _unlike(short, texts.responses)
        if text is not None:
            found[_named(sample.filter)] = text
    return found


def _scores(samples: Sequence[Sample]) -> dict[str, float]:
    """Scores by metric; the filter is named if there are several."""
    several = len(samples) > 1
    return {
        f"{metric},{sample.filter}" if several else metric: score
        for sample in samples
        for metric, score in sample.scores.items()
    }


def _named(filter_name: str) -> str:
    return "" if filter_name == "none" else filter_name


def _facts(sample: Sample) -> tuple[str, ...]:
    """Lengths, times and everything that went wrong."""
    facts = []
    if count := len(sample.token_ids):
        facts.append(gettext("{count} tokens", count=count))
    if sample.prompt_tokens:
        facts.append(gettext("prompt {count} tokens", count=max(sample.prompt_tokens)))
    if sample.seconds:
        facts.append(gettext("{seconds:.2f} s in the engine", seconds=max(sample.seconds)))
    if sample.finish_reasons and not sample.choice_logprobs:
        reasons = ", ".join(dict.fromkeys(sample.finish_reasons))
        facts.append(gettext("finish reason {reasons}", reasons=reasons))
    if sample.truncated:
        facts.append(gettext("prompt left-truncated to max_model_len"))
    if sample.cut_thinking:
        facts.append(gettext("stopped within the reasoning"))
    if sample.guessed:
        facts.append(gettext("lm-eval guessed an answer"))
    if sample.degenerate:
        facts.append(gettext("degenerate: {kinds}", kinds=named(sample.degenerate)))
    return tuple(facts)
