"""Rules that judge whole answers, and checks for degenerate and cut answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from runner.config.verdict import REFERENCE_RULES, VerdictConfig
from runner.evidence.pairing import Pairing
from runner.evidence.samples import Sample, asked_for
from runner.language import gettext
from runner.outcome import TaskOutcome
from runner.plan import Evaluation
from runner.status import Status
from runner.verdict import compared, cut, degenerate, numerics, replay
from runner.verdict.doubts import ALLOW_REFERENCE, doubts_of, meaningless, not_finite, of_reference
from runner.verdict.result import MetricVerdict
from runner.verdict.rule import Against


def shifted(
    evaluation: Evaluation,
    task: TaskOutcome,
    config: VerdictConfig,
    pairing: Pairing | None,
    limited: bool,
    against: Against | None,
    of_engine: Sequence[str],
) -> MetricVerdict:
    """Return the verdict of the rule numerics. `of_engine` are reasons to doubt the engine."""
    verdict = numerics.judge(task, pairing or Pairing((), ()), limited, config, against)
    return _doubted(
        verdict,
        *of_engine,
        doubts_of(task, task.evaluated),
        meaningless(task),
        degenerate_answers(task, "numerics", config, against),
        cut_answers(task, "numerics", config, against),
        not_finite(task),
        of_reference(evaluation, "numerics", against, config.allow_reference),
        "" if config.allow_reference else _of_noise(against),
    )


def replayed(
    evaluation: Evaluation,
    task: TaskOutcome,
    config: VerdictConfig,
    samples: Sequence[Sample],
    against: Against | None,
    of_engine: Sequence[str],
) -> MetricVerdict:
    """Return the task's only verdict: a replayed answer has no score of its own."""
    # A replay has no metrics, so a group's subtasks are those of the reference run.
    own = asked_for(_of_reference(task, "replay", against) or task, samples)
    pairing, limited = compared.pairing(evaluation, own, against)
    limited = limited or not task.look.last or bool(config.replay.chosen)
    verdict = replay.judge(task, pairing or Pairing((), ()), limited, config, against)
    if broken := degenerate.broken_numbers(task):
        verdict = replace(verdict, status=Status.FAILED, reason=broken, test="", p=None)
    return _doubted(
        verdict,
        *of_engine,
        doubts_of(task, task.evaluated),
        of_reference(evaluation, "replay", against, config.allow_reference),
        "" if config.allow_reference else _of_noise(against),
    )


def _of_noise(against: Against | None) -> str:
    """Return the noise runs that may not be of a correct stack."""
    found = [
        gettext("the noise run {name} {doubts}", name=each.name, doubts=_both(each.doubts))
        for each in (against.noise if against is not None else ())
        if each.doubts
    ]
    if not found:
        return ""
    advice = gettext("list others, or set {key}=true", key=ALLOW_REFERENCE)
    return gettext(", ").join([*found, advice])


def _both(doubts: Sequence[str]) -> str:
    return reduce(
        lambda one, other: gettext("{doubt} and {other_doubt}", doubt=one, other_doubt=other),
        doubts,
    )


def degenerate_answers(
    task: TaskOutcome, rule: str, config: VerdictConfig, against: Against | None
) -> str:
    """Return how many answers are degenerate, if more than is accepted; empty if not."""
    if config.allow_degenerate:
        return ""
    return degenerate.too_many(task, _of_reference(task, rule, against))


def cut_answers(
    task: TaskOutcome, rule: str, config: VerdictConfig, against: Against | None
) -> str:
    """Return how many answers were cut, if that is more than is accepted; empty if not."""
    return "" if config.allow_cut else cut.too_many(task, _of_reference(task, rule, against))


def _of_reference(task: TaskOutcome, rule: str, against: Against | None) -> TaskOutcome | None:
    """Return the reference run's task, for a rule that compares with it.

    If several runs are pooled, it counts the degenerate and cut answers of all of them.
    """
    if against is None or rule not in REFERENCE_RULES:
        return None
    found = [each for run in against.runs for each in run.outcome.tasks if each.task == task.task]
    if len(found) < 2:
        return next(iter(found), None)
    return replace(
        found[0],
        answers=sum(each.answers or each.evaluated for each in found),
        degenerate=tuple(kind for each in found for kind in each.degenerate),
        cut_answers=sum(each.cut_answers for each in found),
    )


def _doubted(verdict: MetricVerdict, *doubts: str) -> MetricVerdict:
    """Return the verdict with reasons to doubt it, which keep it from passing."""
    said = gettext(", ").join(filter(None, doubts))
    if not said:
        return verdict
    if verdict.status is Status.PASSED:
        return replace(verdict, status=Status.INCONCLUSIVE, reason=said)
    return replace(verdict, reason=gettext("; ").join([verdict.reason, said]))
