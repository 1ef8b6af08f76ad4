"""Whether the questions asked so far are enough for a verdict on a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runner.config.verdict import VerdictConfig
from runner.evidence.samples import Sample
from runner.outcome import Outcome, State
from runner.plan import Evaluation
from runner.served import OF_SPECULATION
from runner.stats import ALPHA
from runner.status import Status
from runner.verdict import compared
from runner.verdict.judging import judge
from runner.verdict.rule import Against


def enough(
    task: str,
    outcome: Outcome,
    evaluations: tuple[Evaluation, ...],
    config: VerdictConfig,
    samples: Sequence[Sample],
    against: Against | None,
) -> bool:
    """Return whether the task's questions asked so far are enough for a verdict.

    The run's other tasks are not known yet. So that this task's failure stays one after Holm's
    correction over all of them, it must hold after Bonferroni's.
    """
    looked = replace(
        outcome,
        state=State.COMPLETED,
        tasks=tuple(each for each in outcome.tasks if each.task == task),
    )
    own = tuple(each for each in evaluations if each.task == task)
    # Speculation is measured when all tasks have ended, and decides nothing before.
    judged = [
        each
        for each in judge(looked, own, config, samples, against).metrics
        if each.judged and each.metric not in OF_SPECULATION
    ]
    if judged and all(each.status is Status.PASSED for each in judged):
        return True
    tests = 1
    if config.correction == "holm":
        tests = sum(
            len(filters)
            for each in evaluations
            for filters in compared.wanted(each, config, against).values()
        )
    return any(
        each.status is Status.FAILED
        and (each.p is None or each.p * tests <= ALPHA)
        # A smaller drop may turn out to be below the margin, which passes.
        and (each.drop is None or each.margin is None or each.drop >= each.margin)
        for each in judged
    )
