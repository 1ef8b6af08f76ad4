"""Tests all entries of a suite together: many small losses in one direction are a finding.

The scores of the same questions now and before are compared over all entries at once, with a
permutation test of the signs of their differences (as in arXiv 2602.10144).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner.config.verdict import OF_ANSWERS
from runner.language import N_, gettext, ngettext
from runner.outcome import Outcome
from runner.rundir import RunDirectory, read_json
from runner.stats.resampling import FEW, sign_flip_drop, sign_flip_sampled
from runner.suite.result import EntryResult, Pooled
from runner.sweep.answers import Answers, read_answers
from runner.sweep.axis_findings import probability
from runner.sweep.summary import MetricId, Sweep, SweptPoint

# Two such tests on every night: 1 % keeps false findings rare.
LEVEL = 0.01
REFERENCES, GOOD_NIGHTS = N_("the reference runs"), N_("the last good nights")
FIRST = N_("the first reference run")


@dataclass(frozen=True)
class Drop:
    """How much worse one question of an entry is scored now.

    `unit` is what flips together: a question asked to the same weights is one piece of evidence,
    however many entries and filters score it.
    """

    entry: str
    task: str
    unit: tuple[str, str]
    value: float


def pooled(sweep: Sweep, entries: Sequence[EntryResult]) -> tuple[list[Pooled], list[str]]:
    """Return the tests, and a line for each reason that kept entries out of them.

    Entries with a reference run are compared with it, the others with their last good night.
    Entries without a result are not mentioned.
    """
    points = {point.number: point for point in sweep.points}
    found: dict[str, list[Drop]] = {REFERENCES: [], GOOD_NIGHTS: []}
    left_out: dict[str, list[str]] = {}
    for entry in entries:
        point = points.get(entry.number)
        if point is None or point.verdict is None or not entry.metrics:
            continue
        against, places = _before(entry, point)
        try:
            why = _unpooled(entry, places)
            drops = [] if why else _drops(sweep, entry, point, places)
            if not (why or drops):
                why = gettext("no question has a score in all runs")
        except (OSError, ValueError) as error:
            drops, why = [], str(error).splitlines()[0]
        found[against] += drops
        if why:
            left_out.setdefault(why, []).append(entry.name)
    tests = [_test(against, drops) for against, drops in found.items() if drops]
    lines = [
        gettext("Not in the pooled test ({why}): {names}", why=why, names=gettext(", ").join(names))
        for why, names in left_out.items()
    ]
    return tests, lines


def drift(sweep: Sweep, entry: EntryResult, first: Path) -> Pooled | None:
    """Compare an entry with the run in `first`; None if they have no question in common.

    Raises:
        OSError, ValueError: as `_drops`.
    """
    point = next((each for each in sweep.points if each.number == entry.number), None)
    if point is None or point.verdict is None:
        return None
    drops = _drops(sweep, entry, point, [first])
    return _test(FIRST, drops) if drops else None


def _unpooled(entry: EntryResult, places: Sequence[Path]) -> str:
    """Why an entry can't be compared, before anything is read; empty if it can."""
    rules = {metric.rule for metric in entry.metrics}
    if rules <= set(OF_ANSWERS):
        named = gettext(" and ").join(sorted(rules))
        return gettext("{rules} does not compare scores", rules=named)
    if places:
        return ""
    return gettext("no reference run, and no last good night with the same evaluation")


def _before(entry: EntryResult, point: SweptPoint) -> tuple[str, list[Path]]:
    """What an entry is compared with, and the runs' directories; none if there are none."""
    assert point.verdict is not None
    reference = point.verdict.reference
    if reference is not None:
        return REFERENCES, [Path(run.directory) for run in reference.runs]
    if entry.last_good is not None and entry.last_good.same:
        return GOOD_NIGHTS, [Path(entry.last_good.directory)]
    return GOOD_NIGHTS, []


def _drops(
    sweep: Sweep, entry: EntryResult, point: SweptPoint, places: Sequence[Path]
) -> list[Drop]:
    """Of all questions that all runs answered.

    Raises:
        OSError, ValueError: if a run can't be read, or a score is no share: such scores can't be
            added to those of other tasks.
    """
    wanted = tuple(MetricId(*metric.key) for metric in entry.metrics)
    now = read_answers(point, wanted)
    before = [read_answers(_at(point, place), wanted) for place in places]
    weights = point.plan.weights if point.plan is not None else ""
    found = []
    for metric, answers in now.items():
        sign = 1.0 if sweep.higher_is_better(metric) else -1.0
        for question, then in _means([each.get(metric, {}) for each in before]).items():
            if question not in answers:
                continue
            score = answers[question].score
            if not (0 <= score <= 1 and 0 <= then <= 1):
                raise ValueError(gettext("{metric} has scores outside 0 to 1", metric=metric.name))
            unit = (weights or entry.model, question)
            found.append(Drop(entry.name, metric.task, unit, sign * (then - score)))
    return found


def _at(point: SweptPoint, place: Path) -> SweptPoint:
    """The run in another directory, as far as its answers are read."""
    files = RunDirectory(place)
    if not files.samples.is_file() or not files.outcome.is_file():
        raise ValueError(gettext("{directory} has no samples any more", directory=place))
    outcome: Outcome = read_json(files.outcome, Outcome)
    return replace(point, files=files, outcome=outcome)


def _means(sides: Sequence[Answers]) -> dict[str, float]:
    """The mean score of each question that all runs answered."""
    common = set(sides[0]).intersection(*sides[1:])
    return {
        question: math.fsum(side[question].score for side in sides) / len(sides)
        for question in sides[0]
        if question in common
    }


def _test(against: str, drops: Sequence[Drop]) -> Pooled:
    sums = _sums(drops)
    moved = [value for value in sums if value]
    if not moved:
        p = 1.0
    elif len(moved) <= FEW:
        p = sign_flip_drop(moved)
    else:
        p = sign_flip_sampled(moved)
    return Pooled(
        against=against,
        entries=tuple(dict.fromkeys(drop.entry for drop in drops)),
        tasks=len({drop.task for drop in drops}),
        questions=len(sums),
        drop=math.fsum(drop.value for drop in drops) / len(drops),
        worse=sum(value > 0 for value in sums),
        better=sum(value < 0 for value in sums),
        p=p,
        level=LEVEL,
        significant=p <= LEVEL,
    )


def _sums(drops: Iterable[Drop]) -> list[float]:
    """The drop of each unit, over all entries that have it."""
    found: dict[tuple[str, str], list[float]] = {}
    for drop in drops:
        found.setdefault(drop.unit, []).append(drop.value)
    return [math.fsum(own) for own in found.values()]


def told(test: Pooled) -> str:
    """Return `Pooled test against the reference runs: −0.6 points (…), a significant drop (…)`."""
    drop = f"{-100 * test.drop:+.1f}".replace("-", "−")
    drop = "0.0" if drop[1:] == "0.0" else drop
    said = {
        "against": gettext(test.against),
        "drop": drop,
        "tasks": ngettext("{count} task", "{count} tasks", test.tasks),
        "entries": ngettext("{count} entry", "{count} entries", len(test.entries)),
        "questions": test.questions,
        "worse": test.worse,
        "better": test.better,
        "p": probability(test.p),
        "level": test.level,
    }
    if test.significant:
        return gettext(
            "Pooled test against {against}: {drop} points ({tasks}, {entries}, {questions:,} "
            "questions, {worse} worse, {better} better), a significant drop ({p}, level "
            "{level:g}; no effect on the exit status)",
            **said,
        )
    return gettext(
        "Pooled test against {against}: {drop} points ({tasks}, {entries}, {questions:,} "
        "questions, {worse} worse, {better} better), not significant ({p}, level {level:g}; no "
        "effect on the exit status)",
        **said,
    )
