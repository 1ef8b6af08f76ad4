"""The verdict of a comparison as one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from runner.compare.amounts import by_how_much
from runner.compare.changed_answers import UnpairedCount
from runner.compare.comparison import Comparison
from runner.compare.scores import Scores
from runner.evidence.pairing import Reason
from runner.language import N_, gettext, ngettext
from runner.stats import ALPHA
from runner.status import Status
from runner.sweep.axis_findings import amount
from runner.verdict import MetricVerdict
from runner.verdict.rule import THE_REFERENCE, THE_RUN

UNPAIRED = {
    Reason.ONLY_FIRST: N_("only in A {count}"),
    Reason.ONLY_SECOND: N_("only in B {count}"),
    Reason.PROMPT: N_("prompt differs {count}"),
    Reason.IMAGES: N_("images differ {count}"),
    Reason.DOCUMENT: N_("document differs {count}"),
}


def headline(comparison: Comparison) -> str:
    """Return the verdict as one sentence."""
    status = comparison.ruling.status
    if status is Status.FAILED:
        return _worse(comparison)
    if status is Status.PASSED:
        return _no_worse(comparison)
    if not comparison.pairs and comparison.unpaired:
        reason = gettext(
            "no questions could be paired ({reasons})", reasons=reasons(comparison.unpaired)
        )
        return _undecided(reason)
    # Inconclusive because of the numbers, not because of doubts about the samples.
    if comparison.judged:
        for row, verdict in _tested(comparison, Status.INCONCLUSIVE):
            if _open(verdict):
                where, part = _where(comparison, row), _part(comparison, row)
                return _undecided(_left_open(comparison, row, verdict), where, part)
    return _undecided(_reason(comparison))


def reasons(counts: Sequence[UnpairedCount]) -> str:
    """Return `prompt differs 600, only in A 3`."""
    return gettext(", ").join(gettext(UNPAIRED[each.reason], count=each.n) for each in counts)


def _undecided(reason: str, where: str = "", part: str = "") -> str:
    return gettext(
        "Cannot tell whether B is worse than A{where}{part}: {reason}.",
        where=where,
        part=part,
        reason=reason,
    )


def _worse(comparison: Comparison) -> str:
    failed = [row for row, _ in _tested(comparison, Status.FAILED)]
    if not failed:
        return gettext("B is worse than A: {reason}.", reason=_reason(comparison))
    worst = max(failed, key=lambda row: row.drop)
    return gettext(
        "B is worse than A{where} by {difference}{part}.",
        where=_where(comparison, worst),
        difference=by_how_much(worst),
        part=_part(comparison, worst),
    )


def _no_worse(comparison: Comparison) -> str:
    if _all_same(comparison):
        return gettext("B gave the same {answers} answers as A.", answers=comparison.same_answers)
    tested = _tested(comparison, Status.PASSED)
    row, verdict = max(tested, key=lambda each: each[0].drop)
    low, high = row.interval or (0.0, 0.0)
    where, part = _where(comparison, row), _part(comparison, row)
    if row.drop < 0 < low * high:
        return gettext(
            "B is no worse than A: it is better{where} by {difference}{part}.",
            where=where,
            difference=by_how_much(row),
            part=part,
        )
    # The verdict uses this bound. The interval in the table comes from another method, so showing
    # both here would look contradictory.
    most = amount(max(verdict.upper or 0.0, 0.0), row.share, sign=False)
    if low <= 0 <= high:
        return gettext(
            "B is no worse than A: the difference{where} is {difference}{part}, and a drop of more "
            "than {most} is ruled out (95 %, one-sided).",
            where=where,
            difference=amount(row.difference, row.share),
            part=part,
            most=most,
        )
    return gettext(
        "B is worse than A{where} by {difference}{part}, but within the margin of {margin}: a drop "
        "of more than {most} is ruled out (95 %, one-sided).",
        where=where,
        difference=amount(row.drop, row.share, sign=False),
        part=part,
        margin=amount(verdict.margin or 0.0, row.share, sign=False),
        most=most,
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
    """The metric, if there are several."""
    several = sum(not each.subject for each in comparison.scores) > 1
    return gettext(" in {metric}", metric=row.name) if several else ""


def _part(comparison: Comparison, row: Scores) -> str:
    """The number of shared questions, if a run has others as well."""
    if not comparison.unpaired:
        return ""
    return gettext(" on the {count} shared questions", count=row.n)


def _reason(comparison: Comparison) -> str:
    """The verdict's reason, in English with A and B; other languages keep the words of the rule."""
    return comparison.ruling.reason.replace(THE_REFERENCE, "A").replace(THE_RUN, "B")


def _open(verdict: MetricVerdict) -> bool:
    """Whether a drop is neither significant nor ruled out."""
    p, upper, margin = verdict.p_adjusted, verdict.upper, verdict.margin
    return p is not None and upper is not None and p > ALPHA and upper >= (margin or 0.0)


def _all_same(comparison: Comparison) -> bool:
    return comparison.same == comparison.pairs and not comparison.unpaired


def _left_open(comparison: Comparison, row: Scores, verdict: MetricVerdict) -> str:
    most = amount(verdict.upper or 0.0, row.share, sign=False)
    if _all_same(comparison):
        seen = ngettext(
            "B gave the same {answers} answers to the {count} question; on others, a drop of up to "
            "{most} is not ruled out (95 %, one-sided)",
            "B gave the same {answers} answers to the {count} questions; on others, a drop of up "
            "to {most} is not ruled out (95 %, one-sided)",
            comparison.pairs,
            answers=comparison.same_answers,
            most=most,
        )
    else:
        seen = gettext(
            "the difference is {difference}, and a drop of up to {most} is not ruled out (95 %, "
            "one-sided)",
            difference=amount(row.difference, row.share),
            most=most,
        )
    told = [seen]
    if verdict.samples_to_pass is not None:
        questions = _questions(row, verdict.samples_to_pass)
        told.append(
            gettext("without a drop, about {questions} are needed to pass", questions=questions)
        )
    if verdict.samples_to_fail is not None:
        questions = _questions(row, verdict.samples_to_fail)
        told.append(
            gettext(
                "with a drop of twice the margin, about {questions} are needed to fail",
                questions=questions,
            )
        )
    return gettext("; ").join(told)


def _questions(row: Scores, count: int) -> str:
    if not row.repeated:
        return gettext("{count:,} questions", count=count)
    return gettext(
        "{count:,} questions with {samples} samples each", count=count, samples=row.samples[1]
    )
