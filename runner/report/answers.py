"""Selects the answers that a report shows, worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from runner.evidence.degenerate import named
from runner.evidence.samples import Sample, stopped
from runner.evidence.unparsable import unparsable
from runner.language import gettext
from runner.outcome import TaskOutcome
from runner.report.right import Scored, by_filter, scored
from runner.report.subjects import Subjects
from runner.verdict import Verdict

MOST, MOST_OF_A_KIND = 10, 3
# Characters of a text shown on the page; samples.parquet has the whole text.
LONGEST = 4000


@dataclass(frozen=True)
class Shown:
    """One sample and why it is shown."""

    sample: Sample
    score: float | None
    why: str


def worst(
    task: TaskOutcome, verdict: Verdict, samples: Sequence[Sample], subjects: Subjects | None
) -> list[Shown]:
    """Return degenerate answers, then unparsable ones, then truncated ones, then wrong ones.

    Wrong answers alternate between subjects, the most confident first. At most one answer to each
    question is shown.
    """
    found = [each for each in scored(task, verdict, by_filter(samples)) if each.score is not None]
    beside = _beside(found)
    score_of = {id(each.sample): each.score for each in found}
    faulty = [each.sample for each in found if each.sample.degenerate]
    asked = [each.sample for each in found if not each.sample.degenerate]
    wrong = [each.sample for each in found if each.right is False and not each.sample.degenerate]
    unread = [sample for sample in asked if unparsable(sample)]
    cut = [sample for sample in wrong if _cut(sample) and not unparsable(sample)]
    rest = [sample for sample in wrong if not _cut(sample) and not unparsable(sample)]
    order = [row.name for row in subjects.rows] if subjects else []
    chosen: list[Sample] = []
    for kind in (faulty, unread, cut):
        chosen += _of_others(kind, chosen)[:MOST_OF_A_KIND]
    rest.sort(key=_confidence, reverse=True)
    chosen += _in_turn(_of_others(rest, chosen), order)
    return [
        Shown(
            each,
            score_of[id(each)],
            gettext("; ").join([_why(each), *beside.get(_question(each), ())]),
        )
        for each in chosen[:MOST]
    ]


def _question(sample: Sample) -> tuple[str, int]:
    return (sample.task, sample.doc_id)


def _of_others(samples: Sequence[Sample], chosen: Sequence[Sample]) -> list[Sample]:
    """The first sample of each question that has none among the chosen ones."""
    shown = {_question(each) for each in chosen}
    first: dict[tuple[str, int], Sample] = {}
    for each in samples:
        first.setdefault(_question(each), each)
    return [each for question, each in first.items() if question not in shown]


def _beside(found: Sequence[Scored]) -> dict[tuple[str, int], list[str]]:
    """`2 of 8 samples score 1` for each question that was asked several times."""
    scores: dict[tuple[str, int], list[float | None]] = {}
    for each in found:
        scores.setdefault(_question(each.sample), []).append(each.score)
    return {
        question: [
            gettext("{right} of {count} samples score 1", right=own.count(1.0), count=len(own))
        ]
        for question, own in scores.items()
        if len(own) > 1 and set(own) <= {0.0, 1.0}
    }


def shortened(text: str) -> str:
    """Cut a long text in its middle and state how many characters are omitted."""
    if len(text) <= LONGEST:
        return text
    end = LONGEST // 4
    left_out = gettext("… {count} characters omitted …", count=len(text) - LONGEST)
    return f"{text[: LONGEST - end]}\n{left_out}\n{text[-end:]}"


def _in_turn(samples: list[Sample], order: list[str]) -> list[Sample]:
    """One of each subject, then a second of each, in the order of the samples."""
    by_task: dict[str, list[Sample]] = {name: [] for name in order}
    for sample in samples:
        by_task.setdefault(sample.task, []).append(sample)
    rounds = range(max(map(len, by_task.values()), default=0))
    return [of[turn] for turn in rounds for of in by_task.values() if turn < len(of)]


def _confidence(sample: Sample) -> float:
    """The mean log-probability of the answer's tokens."""
    return fmean(sample.logprobs) if len(sample.logprobs) else float("-inf")


def _cut(sample: Sample) -> bool:
    return sample.truncated or stopped(sample)


def _why(sample: Sample) -> str:
    if sample.degenerate:
        return gettext("degenerate: {kinds}", kinds=named(sample.degenerate))
    if sample.guessed:
        return gettext("no answer could be parsed; lm-eval guessed one")
    if unparsable(sample):
        return gettext("no answer could be parsed")
    if sample.truncated:
        return gettext("prompt left-truncated to max_model_len")
    if stopped(sample):
        return gettext("stopped at the token limit")
    return gettext("wrong")
