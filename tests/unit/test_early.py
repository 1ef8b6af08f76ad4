"""When a run may stop: which metrics a look can judge, and what makes its verdict certain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from runner.config.verdict import VerdictConfig
from runner.evidence.samples import Sample
from runner.look import CONTINUED, Look
from runner.outcome import MetricResult, Outcome, State
from runner.status import Status
from runner.verdict import Against, Verdict, early, judge
from tests.unit.test_verdict_rules import PAIRED, TASK, USED, asked, questions, run

EARLY, LAST = Look(5, 12), Look(12, 12)


def looked(scores: Sequence[Sample], look: Look, **counts: Any) -> Outcome:
    outcome = run(scores, **counts)
    if look.last:
        return replace(outcome, tasks=tuple(replace(each, look=look) for each in outcome.tasks))
    whole = 2 * len(scores)
    tasks = tuple(
        replace(
            each,
            look=look,
            whole=whole,
            metrics=tuple(replace(metric, whole=whole) for metric in each.metrics),
        )
        for each in outcome.tasks
    )
    return replace(outcome, tasks=tasks)


def certain(
    own: Sequence[Sample],
    theirs: Sequence[Sample],
    config: VerdictConfig = PAIRED,
    outcome: Outcome | None = None,
    baseline: float | None = None,
) -> bool:
    config = replace(config, sequential=True)
    against = Against(USED, run(theirs), theirs, {TASK: None})
    found = outcome or looked(own, EARLY)
    return early.enough(TASK, found, (asked(baseline),), config, own, against)


def test_equal_scores_are_enough_to_pass_from_243_questions_on() -> None:
    theirs = questions([1.0, 0.0] * 300)
    assert not certain(theirs[:242], theirs)
    assert certain(theirs[:243], theirs)


def test_a_large_loss_is_enough_to_fail() -> None:
    theirs = questions([1.0] * 600)
    assert certain(questions([1.0] * 30 + [0.0] * 30), theirs)
    assert not certain(questions([1.0] * 58 + [0.0] * 2), theirs)


def test_a_significant_drop_below_the_margin_is_not_enough_to_fail() -> None:
    config = replace(PAIRED, margin=0.2)
    theirs = questions([1.0] * 600)
    own = questions([1.0] * 90 + [0.0] * 15)
    verdict = judged(own, theirs, EARLY, config)
    assert verdict.metrics[0].p is not None and verdict.metrics[0].p < 0.01
    assert not certain(own, theirs, config)


def judged(
    own: Sequence[Sample], theirs: Sequence[Sample], look: Look, config: VerdictConfig = PAIRED
) -> Verdict:
    against = Against(USED, run(theirs), theirs, {TASK: None})
    return judge(looked(own, look), (asked(),), config, own, against)


def test_the_verdict_of_a_stopped_run_says_so() -> None:
    theirs = questions([1.0, 0.0] * 300)
    verdict = judged(theirs[:300], theirs, EARLY)
    assert verdict.status is Status.PASSED and verdict.stopped
    assert verdict.reason.endswith("t: 300 of 600 samples (stopped early)")
    assert "stopped at 300 of 600 questions" in verdict.metrics[0].reason
    assert verdict.metrics[0].test == "betting"


def test_the_verdict_of_an_interrupted_run_does_not() -> None:
    theirs = questions([1.0, 0.0] * 300)
    outcome = replace(looked(theirs[:300], EARLY), state=State.INTERRUPTED)
    against = Against(USED, run(theirs), theirs, {TASK: None})
    assert not judge(outcome, (asked(),), PAIRED, theirs[:300], against).stopped


@pytest.mark.parametrize("look", [LAST, CONTINUED])
def test_the_last_look_has_half_of_the_level(look: Look) -> None:
    theirs = questions([1.0] * 600)
    own = questions([0.0] * 14 + [1.0] * 586)
    half, whole = (judged(own, theirs, each).metrics[0] for each in (look, Look(1, 1)))
    assert half.test == whole.test == "exact McNemar"
    assert half.p is not None and whole.p is not None
    assert half.p == pytest.approx(2 * whole.p)
    assert half.upper is not None and whole.upper is not None and half.upper > whole.upper


def test_a_value_that_few_questions_do_not_have_yet_is_not_a_failure() -> None:
    theirs = questions([1.0, 0.0] * 300)
    own = theirs[:300]
    outcome = looked(own, EARLY)
    (task,) = outcome.tasks
    nan = replace(task, metrics=tuple(replace(m, value=math.nan) for m in task.metrics))
    assert not certain(own, theirs, outcome=replace(outcome, tasks=(nan,)))


def test_scores_of_unknown_limits_are_judged_at_the_end() -> None:
    theirs = questions([0.25, 0.75] * 300)
    assert certain([replace(e, scores={"acc": e.scores["acc"]}) for e in theirs[:300]], theirs)

    def renamed(samples: Sequence[Sample]) -> list[Sample]:
        return [replace(each, scores={"f1": each.scores["acc"]}) for each in samples]

    own = renamed(theirs[:300])
    outcome = looked(theirs[:300], EARLY)
    tasks = tuple(
        replace(task, metrics=tuple(replace(m, metric="f1") for m in task.metrics))
        for task in outcome.tasks
    )
    theirs_run = run(theirs)
    theirs_tasks = tuple(
        replace(task, metrics=tuple(replace(m, metric="f1") for m in task.metrics))
        for task in theirs_run.tasks
    )
    against = Against(USED, replace(theirs_run, tasks=theirs_tasks), renamed(theirs), {TASK: None})
    config = replace(PAIRED, sequential=True)
    found = replace(outcome, tasks=tasks)
    assert not early.enough(TASK, found, (asked(),), config, own, against)


def test_a_group_that_may_be_the_mean_of_its_subtasks_is_judged_at_the_end() -> None:
    """All answers are right, so both means are 1; a subtask of few questions may not be done."""
    large, small = questions([1.0] * 290, task="large"), questions([1.0] * 10, task="small")
    both = [replace(each, evaluation=TASK) for each in (*large, *small)]
    assert not certain(both, both)
    mixed = [
        *(replace(e, evaluation=TASK) for e in questions([1.0] * 280 + [0.0] * 10, task="large")),
        *(replace(e, evaluation=TASK) for e in small),
    ]
    assert certain(mixed, mixed)


def test_speculation_is_measured_at_the_end_and_keeps_no_run_from_stopping() -> None:
    theirs = questions([1.0, 0.0] * 300)
    with_rate = run(theirs)
    rate = MetricResult(TASK, "acceptance_rate", "none", 0.7, None, 600, True, False)
    tasks = tuple(replace(each, metrics=(*each.metrics, rate)) for each in with_rate.tasks)
    against = Against(USED, replace(with_rate, tasks=tasks), theirs, {TASK: None})
    config = replace(PAIRED, sequential=True)
    own = theirs[:300]
    assert early.enough(TASK, looked(own, EARLY), (asked(),), config, own, against)
