"""Sentences about a comparison: the verdict first, then the reasons."""

from __future__ import annotations

from collections.abc import Sequence

from runner.compare.changed_answers import UnpairedCount
from runner.compare.changes import Kind
from runner.compare.comparison import Comparison
from runner.compare.numerics import Spread
from runner.compare.scores import Scores
from runner.config.verdict import NumericsConfig
from runner.evidence.pairing import Reason
from runner.stats import ALPHA
from runner.status import Status
from runner.sweep.axis_findings import amount, probability
from runner.verdict import MetricVerdict

# Subjects and settings listed in one sentence.
NAMED = 4
ASKED_OTHERWISE = (Reason.PROMPT, Reason.IMAGES, Reason.DOCUMENT)

MEANING = {
    Kind.PROMPT: "The chat template, system message or few-shot examples produced a different text "
    "(or different tokens) for the same document.",
    Kind.IMAGES: "The image was decoded or resized differently: its pixels or its number of tokens "
    "differ.",
    Kind.DOCUMENT: "The data set has different content at this index, for example another target.",
    Kind.TRUNCATED: "One run left-truncated the prompt to fit its max_model_len.",
    Kind.DEGENERATE: "One answer repeats itself, is garbled or empty, or has a log-probability "
    "that is NaN or infinite.",
    Kind.LIMIT: "One answer stopped at the token limit, the other ended on its own.",
    Kind.UNPARSABLE: "One answer could not be parsed: it was scored as wrong, or guessed.",
    Kind.RESCORED: "The answers are identical but were scored differently.",
    Kind.NEAR_TIE: "Where the answers diverge, both runs had two almost equally likely tokens: "
    "rounding alone can flip such an answer. This is noise.",
    Kind.DIFFERENT: "Where the answers diverge, at least one run had a clear preference: rounding "
    "does not explain the difference. Investigate it.",
}


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
            return f"{cannot}{_where(comparison, row)}{part}: {_left_open(row, verdict)}."
    return f"{cannot}: {_reason(comparison)}."


def _worse(comparison: Comparison) -> str:
    failed = [row for row, _ in _tested(comparison, Status.FAILED)]
    if not failed:
        return f"B is worse than A: {_reason(comparison)}."
    worst = max(failed, key=lambda row: row.drop)
    where, part = _where(comparison, worst), _part(comparison, worst)
    return f"B is worse than A{where} by {by_how_much(worst)}{part}."


def _no_worse(comparison: Comparison) -> str:
    if comparison.same == comparison.pairs and not comparison.unpaired:
        return f"B gave the same {comparison.pairs} answers as A."
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


def _left_open(row: Scores, verdict: MetricVerdict) -> str:
    most = amount(verdict.upper or 0.0, row.share, sign=False)
    told = (
        f"the difference is {amount(row.difference, row.share)}, and a drop of up to {most} is not "
        "ruled out (95 %, one-sided)"
    )
    samples = verdict.samples_to_decide
    return f"{told}; about {samples:,} questions are needed to decide" if samples else told


def findings(comparison: Comparison) -> list[str]:
    """Return the reasons, one sentence each; empty ones are omitted."""
    found = [
        _questions(comparison),
        _subjects(comparison),
        _kinds(comparison),
        _numerics(comparison),
        _judged_numerics(comparison),
        _unpaired(comparison),
        _reported(comparison),
        _tokens(comparison),
        *(
            f"Run {side} is incomplete: it {run.incomplete}."
            for side, run in (("A", comparison.first), ("B", comparison.second))
            if run.incomplete
        ),
        _settings(comparison),
    ]
    return [sentence for sentence in found if sentence]


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
            f"{where}Of {row.n} shared questions, {row.worse} got worse and {row.better} better "
            f"({row.test}, {probability(row.p_adjusted)}); detectable drop: "
            f"{amount(row.detectable, row.share, sign=False)} (80 % power)."
        )
    return " ".join(said)


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
    if not changed:
        return ""
    several = sorted(comparison.kinds, key=lambda each: -each.n)
    named = ", ".join(
        f"{each.kind.value} {each.n}{' (noise)' if each.kind is Kind.NEAR_TIE else ''}"
        for each in several
    )
    if any(each.reason in ASKED_OTHERWISE for each in comparison.unpaired):
        return f"{changed} questions were asked or answered differently: {named}."
    return f"{changed} of {comparison.pairs} answers differ. Causes: {named}."


def _numerics(comparison: Comparison) -> str:
    found = comparison.numerics
    said = []
    for spread, what in (
        (found.tokens, "Token log-probabilities"),
        (found.choices, "Log-likelihoods of the scored choices"),
    ):
        if spread is not None:
            said.append(f"{what} {_moved(spread, found.pairs)}.")
    if found.pairs and not said:
        return "No log-probabilities could be compared."
    return " ".join(said)


def _moved(spread: Spread, pairs: int) -> str:
    """Size of the shifts, and the number of pairs they come from."""
    of = f"{spread.pairs} of {pairs}" if spread.pairs < pairs else f"all {pairs}"
    lost = f"{spread.lost:,} are NaN, or infinite in one run only" if spread.lost else ""
    if not spread.n:
        told = "cannot be compared"
    elif spread.worst == 0:
        told = f"are identical ({spread.n:,} values from {of} pairs)"
    else:
        told = (
            f"differ by {spread.median:.2g} nats (median), {spread.p99:.2g} (99th percentile) and "
            f"at most {spread.worst:.2g} ({spread.n:,} values from {of} pairs)"
        )
    return f"{told}; {lost}" if lost else told


def _judged_numerics(comparison: Comparison) -> str:
    """The result of the rule `numerics` with its default limits."""
    spread, limits = comparison.numerics.tokens or comparison.numerics.choices, NumericsConfig()
    if spread is None or spread.worst == 0 or limits.median is None or limits.p99 is None:
        return ""
    allowed = (
        f"the limits of verdict=numerics (median {limits.median:g}, 99th percentile {limits.p99:g})"
    )
    if spread.median <= limits.median and spread.p99 <= limits.p99 and not spread.lost:
        return f"This is within {allowed}."
    return f"This exceeds {allowed}: the runs do not compute the same values."


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


def _tokens(comparison: Comparison) -> str:
    found = comparison.numerics
    if not found.other_tokens:
        return ""
    return (
        f"In {found.other_tokens} of {found.pairs} pairs, the same text and pixels produced a "
        "different number of prompt tokens: the tokenizer or the image preprocessing differs. "
        "Their log-probabilities are not compared."
    )


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
