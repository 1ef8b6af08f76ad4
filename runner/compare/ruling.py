"""Judges the candidate with the rule `paired` against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runner.compare.narrowing import narrowed
from runner.compare.settings import other_requests
from runner.compare.sides import Side
from runner.config.verdict import VerdictConfig
from runner.evidence.samples import Sample
from runner.language import gettext
from runner.reference.reading import incomplete, miscounted
from runner.status import EXIT_STATUS, Status
from runner.verdict import Against, ReferenceUsed, Verdict, judge


def rule(
    first: Side, second: Side, before: Sequence[Sample], after: Sequence[Sample], margin: float
) -> tuple[Verdict, bool]:
    """Return a verdict that is PASSED, FAILED or INCONCLUSIVE, and whether the scores were judged.

    They are not, and the verdict is INCONCLUSIVE, if a run is incomplete or was asked with other
    settings. If the task.limit differs, the shared questions are judged.
    """
    limits = {each.task: each.limit for each in first.plan.evaluations}
    against = Against(_used(first), first.outcome, before, limits)
    config = VerdictConfig(rule="paired", margin=margin)
    found = narrowed(first, second, before, after)
    verdict = judge(found.outcome, found.evaluations, config, found.samples, against)
    unfinished = incomplete(first.outcome) or miscounted(first.files, first.outcome)
    if unfinished:
        reasons = gettext("; ").join(unfinished)
        return _undecided(verdict, gettext("A is incomplete: {reasons}", reasons=reasons))
    if others := other_requests(first, second):
        return _undecided(verdict, gettext("; ").join(others))
    if verdict.status not in (Status.PASSED, Status.FAILED, Status.INCONCLUSIVE):
        ended = gettext(
            "B ended with {status}: {reason}", status=verdict.status.value, reason=verdict.reason
        )
        return _undecided(verdict, ended)
    return verdict, True


def _undecided(verdict: Verdict, reason: str) -> tuple[Verdict, bool]:
    status = Status.INCONCLUSIVE
    return replace(verdict, status=status, reason=reason, exit_status=EXIT_STATUS[status]), False


def _used(side: Side) -> ReferenceUsed:
    plan = side.plan
    return ReferenceUsed(
        name=side.name,
        directory=str(side.files.path),
        run_id=None,
        model=plan.model,
        platform=plan.platform,
        layout=plan.parallel_mode,
        engine_fingerprint=plan.engine_fingerprint,
        evaluation_fingerprint=plan.evaluation_fingerprint,
        status=side.verdict.status.value if side.verdict is not None else "",
    )
