"""Which metrics can be judged before all questions are asked (`verdict.sequential`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runner.config.metric_limits import LIMITS
from runner.language import gettext
from runner.stats.limits import Limits
from runner.status import Status
from runner.verdict.rule import LATER, Case, Finding, refused
from runner.verdict.scores import mean_of_subtasks


def judged_early(case: Case, limits: Limits, *sides: Sequence[Sequence[float]]) -> bool:
    """Return whether the metric can be judged before the last look.

    `limits` are those of the scores, and `sides` have the scores of each question's answers, for
    this run and the reference run. The limits must be known, and not just because the first scores
    are within 0 and 1: all are 0 or 1, or the metric is in LIMITS. The
    value must be the mean over questions. If it is the mean of the subtasks' means as well, the
    group may be defined by them, which weighs the questions of small subtasks more.
    """
    metric = case.result.metric
    known = limits.known and (
        metric in LIMITS
        or all(score in (0, 1) for answers in sides for own in answers for score in own)
    )
    if len({sample.task for sample in case.samples}) == 1:
        return known
    of_subtasks = mean_of_subtasks(case.samples, metric)
    return known and of_subtasks is not None and not math.isclose(of_subtasks, case.result.value)


def not_finite(case: Case) -> Finding:
    """Return the finding for a value that is NaN or infinite.

    FAILED, but before the last look there may just be too few questions for a value.
    """
    if not case.look.last:
        return refused(gettext(LATER))
    return Finding(Status.FAILED, gettext("the value is {value}", value=case.result.value))
