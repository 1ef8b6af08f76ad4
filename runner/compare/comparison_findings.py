"""Sentences about a comparison: the verdict first, then the reasons."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from runner.compare import numerics_findings, sampled_findings
from runner.compare.changed_answers import UnpairedCount
from runner.compare.changes import Kind
from runner.compare.comparison import Comparison
from runner.compare.scores import Scores
from runner.evidence.pairing import Reason
from runner.report.terminal import counted
from runner.stats import ALPHA
from runner.status import Status
from runner.sweep.axis_findings import amount, probability
from runner.verdict import MetricVerdict

# Subjects and settings listed in one sentence.
NAMED = 4
NOISE = {Kind.NEAR_TIE: " (noise)", Kind.DRAWN: " (chance)"}
ASKED_OTHERWISE = (Reason.PROMPT, Reason.IMAGES, Reason.DOCUMENT)


def headline(comparison: Comparison) -> str:
    """Return the verdict as one sentence."""
    status, cannot = comparison.ruling.status, "Cannot tell whether B is worse than A"
    if status is Status.FAILED:
        return _worse(comparison)
    if status is Status.PASSED:
        return _no_worse(comparison)
    if not comparison.pairs and comparison.unpaired:
        return f"{cannot}: no questions could be paired ({_reasons(comparison.unpaired)})."
    for row, verdict in _tested(comparison, Status.INCONCLUSIVE):
        # Inconclusive because of the numbers, not because of doubts about the samples.
        if verdict.reason in comparison.ruling.reason and _open(verdict):
            part = _part(comparison, row)
            left_open = _left_open(comparison, row, verdict)
            return f"{cannot}{_where(comparison, row)}{part}: {left_open}."
    return f"{cannot}: {_reason(comparison)}."


def _worse(comparison: Comparison) -> str:
    failed = [row for row, _ in _tested(comparison, Status.FAILED)]
    if not failed:
        return f"B is worse than A: {_reason(comparison)}."
    worst = max(failed, key=lambda row: row.drop)
    where, part = _where(comparison, worst), _part(comparison, worst)
    return f"B is worse than A{where} by {by_how_much(worst)}{part}."


def _no_worse(comparison: Comparison) -> str:
    if _all_same(comparison):
        return f"B gave the same {comparison.same_answers} answers as A."
    tested = _tested(comparison, Status.PASSED)
    row, verdict = max(tested, key=lambda each: each[0].drop)
    low, high = row.interval or (0.0, 0.0)
    where, part = _where(comparison, row), _part(comparison, row)
    if row.drop < 0 < low * high:
        return f"B is no worse than A: it is better{where} by {by_how_much(row)}{part}."
    # The verdict uses this bound. The interval in the table comes from another method, so showing
    # both here would look contradictory.
    most = amount(max(verdict.upper or 0.0, 0.0), row.share, sign=False)
    if low <= 0 <= high:
        difference = amount(row.difference, row.share)
        return (
            f"B is no worse than A: the difference{where} is {difference}{part}, and a drop of "
            f"more than {most} is ruled out (95 %, one-sided)."
        )
    margin = amount(verdict.margin or 0.0, row.share, sign=False)
    return (
        f"B is worse than A{where} by {amount(row.drop, row.share, sign=False)}{part}, but within "
        f"the margin of {margin}: a drop of more than {most} is ruled out (95 %, one-sided)."
    )


def _tested(comparison: Comparison, status: Status) -> list[tuple[Scores, MetricVerdict]]:
    """Metrics of whole tasks that the verdict tested, with the given status."""
    verdicts = {(each.task, each.metric, each.filter): each for each in comparison.ruling.metrics}
    found = (
        (row, verdicts.get((row.task, row.metric, row.filter)))
        for row in comparison.scores
        if not row.subject
    )
    return [
        (row, verdict)
        for row, verdict in found
        if verdict is not None and verdict.p is not None and verdict.status is status
    ]


def _where(comparison: Comparison, row: Scores) -> str:
    several = sum(not each.subject for each in comparison.scores) > 1
    return f" in {row.name}" if several else ""


def _part(comparison: Comparison, row: Scores) -> str:
    """The number of shared questions, if a run has others as well."""
    return f" on the {row.n} shared questions" if comparison.unpaired else ""


def _reason(comparison: Comparison) -> str:
    return comparison.ruling.reason.replace("the reference run", "A").replace("this run", "B")


def _open(verdict: MetricVerdict) -> bool:
    """Whether a drop is neither significant nor ruled out."""
    p, upper, margin = verdict.p_adjusted, verdict.upper, verdict.margin
    return p is not None and upper is not None and p > ALPHA and upper >= (margin or 0.0)


def _all_same(comparison: Comparison) -> bool:
    return comparison.same == comparison.pairs and not comparison.unpaired


def _left_open(comparison: Comparison, row: Scores, verdict: MetricVerdict) -> str:
    most = amount(verdict.upper or 0.0, row.share, sign=False)
    seen = f"the difference is {amount(row.difference, row.share)}, and"
    if _all_same(comparison):
        asked = counted(comparison.pairs, "question")
        seen = f"B gave the same {comparison.same_answers} answers to the {asked}; on others,"
    told = f"{seen} a drop of up to {most} is not ruled out (95 %, one-sided)"
    each = f" with {row.samples[1]} samples each" if row.repeated else ""
    if verdict.samples_to_pass is not None:
        count = f"{verdict.samples_to_pass:,} questions{each}"
        told = f"{told}; without a drop, about {count} are needed to pass"
    if verdict.samples_to_fail is not None:
        count = f"{verdict.samples_to_fail:,} questions{each}"
        told = f"{told}; with a drop of twice the margin, about {count} are needed to fail"
    return told


def findings(comparison: Comparison) -> list[str]:
    """Return the reasons, one sentence each; empty ones are omitted."""
    found = [
        _questions(comparison),
        _subjects(comparison),
        sampled_findings.equality(comparison),
        *sampled_findings.distributions(comparison),
        _kinds(comparison),
        numerics_findings.shifts(comparison.numerics),
        numerics_findings.judged(comparison.numerics),
        _unpaired(comparison),
        _reported(comparison),
        numerics_findings.other_tokens(comparison.numerics),
        *(
            f"Run {side} is incomplete: it {run.incomplete}."
            for side, run in (("A", comparison.first), ("B", comparison.second))
            if run.incomplete
        ),
        _settings(comparison),
        _why(comparison),
    ]
    return [sentence for sentence in found if sentence]


def _why(comparison: Comparison) -> str:
    """The command that finds the setting, where there can be one."""
    if comparison.ruling.status is not Status.FAILED or comparison.settings.same_engine:
        return ""
    both = shlex.join([comparison.first.name, comparison.second.name])
    return f"To find the setting that makes B worse: python -m runner.why {both}"


def leading_scores(comparison: Comparison) -> list[Scores]:
    """Return the scores of the leading metric of each task."""
    return [row for row in comparison.scores if row.leading]


def by_how_much(row: Scores) -> str:
    """Return `31.2 points (95 % 26.8 to 35.3)`, without a sign."""
    sized = amount(abs(row.difference), row.share, sign=False)
    bounds = sorted(abs(bound) for bound in row.interval or ())
    if not bounds or row.interval is None or row.interval[0] * row.interval[1] < 0:
        return with_interval(row) if row.interval else sized
    low, high = (amount(bound, row.share, sign=False) for bound in bounds)
    return f"{sized} (95 % {low.removesuffix(' points')} to {high.removesuffix(' points')})"


def with_interval(row: Scores) -> str:
    """Return `−31.2 points (95 % −35.3 to −26.8)`."""
    told = amount(row.difference, row.share)
    return f"{told} (95 % {bounds(row)})" if row.interval else told


def bounds(row: Scores) -> str:
    """Return `−35.3 to −26.8`, in points if scores are shares."""
    low_high = [amount(each, row.share).removesuffix(" points") for each in row.interval or ()]
    return " to ".join(low_high)


def _questions(comparison: Comparison) -> str:
    rows = leading_scores(comparison)
    said = []
    for row in rows[:NAMED]:
        where = f"{row.name}: " if len(rows) > 1 else ""
        said.append(
            f"{where}Of {row.n} shared questions{_asked(row)}, {row.worse} got worse and "
            f"{row.better} better{' on average' if row.repeated else ''} ({row.test}, "
            f"{probability(row.p_adjusted)}); detectable drop: "
            f"{amount(row.detectable, row.share, sign=False)} (80 % power)."
        )
    return " ".join(said)


def _asked(row: Scores) -> str:
    """` (8 samples each)` or ` (A 8 samples each, B 4)`; empty if both runs asked once."""
    first, second = row.samples
    if not row.repeated:
        return ""
    if first == second:
        return f" ({first} samples each)"
    return f" (A {counted(first, 'sample')} each, B {second})"


def _subjects(comparison: Comparison) -> str:
    rows = [row for row in comparison.scores if row.subject]
    hit = [row for row in rows if row.p_adjusted < ALPHA]
    if not rows or not comparison.flips:
        return ""
    if not hit:
        return "No single subject is significantly worse."
    hit.sort(key=lambda row: -row.drop)
    named = ", ".join(
        f"{row.task} ({amount(row.difference, row.share).removesuffix(' points')})"
        for row in hit[:NAMED]
    )
    more = f" and {len(hit) - NAMED} more" if len(hit) > NAMED else ""
    spared = len(rows) - len(hit)
    rest = f"; no significant drop in {spared} of {len(rows)} subjects" if spared else ""
    return f"Significantly worse in {named}{more}{rest}."


def _kinds(comparison: Comparison) -> str:
    changed = sum(each.n for each in comparison.kinds)
    if all(each.kind is Kind.DRAWN for each in comparison.kinds):
        return ""
    several = sorted(comparison.kinds, key=lambda each: -each.n)
    named = ", ".join(f"{each.kind.value} {each.n}{NOISE.get(each.kind, '')}" for each in several)
    if any(each.reason in ASKED_OTHERWISE for each in comparison.unpaired):
        return f"{changed} questions were asked or answered differently: {named}."
    return f"{changed} of {comparison.pairs} answers differ. Causes: {named}."


def _reasons(counts: Sequence[UnpairedCount]) -> str:
    """`prompt differs 600, only in A 3`."""
    named = (f"{each.reason.value} {each.n}" for each in counts)
    return ", ".join(named).replace("in first", "in A").replace("in second", "in B")


def _reported(comparison: Comparison) -> str:
    """The values that the runs report, if there are no pairs to score."""
    known = [each for each in comparison.reported if None not in (each.first, each.second)]
    if comparison.scores or not known:
        return ""
    named = ", ".join(
        f"{each.name} {each.first:.3f} (A) and {each.second:.3f} (B)" for each in known
    )
    return f"The runs report these values on questions that were asked differently: {named}."


def _unpaired(comparison: Comparison) -> str:
    counts = comparison.unpaired
    if not counts:
        return ""
    sides = (("A", comparison.first), ("B", comparison.second))
    limits = [f"{letter} ran with {run.limited}" for letter, run in sides if run.limited]
    why = f" ({', '.join(limits)})" if limits else ""
    return f"Not paired: {_reasons(counts)}{why}; {comparison.pairs} pairs remain."


def _settings(comparison: Comparison) -> str:
    found = comparison.settings
    keys = [each.key for each in (*found.configuration, *found.engine, *found.environment)]
    if keys:
        more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
        noun = "setting or version differs" if len(keys) == 1 else "settings or versions differ"
        return f"{len(keys)} {noun}: {', '.join(keys[:NAMED])}{more}."
    if found.same_engine and found.same_evaluation:
        return "No recorded setting, version or fingerprint differs between the runs."
    other = _joined(
        [
            *([] if found.same_engine else ["engine"]),
            *([] if found.same_evaluation else ["evaluation"]),
        ]
    )
    return (
        f"No setting differs, but the {other} fingerprint does: the content of the "
        "weights, tokenizer, data or code differs."
    )


def _joined(names: Sequence[str]) -> str:
    return " and ".join(names)
