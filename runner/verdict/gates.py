"""How often the rules that compare with a baseline pass or fail a stack, before any run.

For metrics whose samples score 0 or 1, and where higher values are better.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

from runner.language import gettext
from runner.percent import percent
from runner.stats import drops
from runner.stats.gates import Gate, within
from runner.status import Status
from runner.verdict import isclose as isclose_rule
from runner.verdict.result import MetricVerdict
from runner.verdict.settle import decide

# The loss that a gate is judged by, and what makes it a weak one: how often it passes a stack that
# lost that much, and how often it fails an unchanged one.
LOSS = 0.05
MOST_PASSES, MOST_FAILS = 0.2, 0.05
# From the worst status to the best.
_ORDER = (Status.FAILED, Status.INCONCLUSIVE, Status.PASSED)


def isclose(baseline: float, rtol: float, questions: int, samples: int = 1) -> Gate:
    """Return the gate of `isclose`."""
    return _accepting(isclose_rule.tolerated(baseline, rtol), questions, samples)


def absolute(baseline: float, tolerance: float, questions: int, samples: int = 1) -> Gate:
    """Return the gate that passes values within an absolute tolerance of the baseline."""
    return _accepting((baseline - tolerance, baseline + tolerance), questions, samples)


def not_worse(baseline: float, margin: float, questions: int, samples: int = 1) -> Gate:
    """Return the gate of `not_worse` for one answer to each question.

    It is that of one tested metric without clusters, and of a baseline that is taken as exact.

    Raises:
        ValueError: for several samples: the betting test has no exact distribution.
    """
    if samples != 1:
        raise ValueError(samples)
    if margin >= baseline:  # no drop is larger, so the rule refuses to judge
        return Gate(questions, samples, range(0), undecided=range(questions + 1))

    def rank(right: int) -> int:
        drop = drops.of_share(right, questions, baseline)
        return _ORDER.index(decide(drop.drop, drop.upper, drop.p, margin)[0])

    counts = range(questions + 1)
    passing = bisect_left(counts, 2, key=rank)
    undecided = range(bisect_right(counts, 0, key=rank), passing)
    return Gate(questions, samples, range(passing, questions + 1), undecided)


def of_metric(metric: MetricVerdict, samples: int) -> Gate | None:
    """Return the gate that judged a metric, with `samples` answers for each question.

    None for a rule without a baseline, and if the rule's test has no exact distribution here.
    """
    if metric.baseline is None or metric.n <= 0:
        return None
    if metric.rule == "isclose" and metric.tolerated is not None:
        return _accepting(metric.tolerated, metric.n, samples)
    exact = metric.clusters is None and samples == 1 and metric.test == drops.BINOMIAL
    if metric.rule == "not_worse" and metric.margin is not None and exact:
        return not_worse(metric.baseline, metric.margin, metric.n)
    return None


def weak(gate: Gate, baseline: float) -> bool:
    """Return whether the gate often passes a stack that lost 5 points or fails an unchanged one."""
    lost = baseline - LOSS
    return (lost >= 0 and gate.passes(lost) > MOST_PASSES) or gate.fails(baseline) > MOST_FAILS


def said(gate: Gate, baseline: float) -> str:
    """Describe a gate in one sentence, without the full stop."""
    lost, fails = baseline - LOSS, share(gate.fails(baseline))
    if lost < 0:
        return gettext("fails an unchanged stack in {share} of runs", share=fails)
    return gettext(
        "passes a stack that lost {points:g} points in {passes} of runs and fails an unchanged one "
        "in {fails}",
        points=100 * LOSS,
        passes=share(gate.passes(lost)),
        fails=fails,
    )


def share(part: float) -> str:
    """Return a share of runs as a percentage: `88 %`, `4.3 %`, `<0.1 %`."""
    if 0 < part < 0.001:
        return "<0.1 %"
    if 0.999 < part < 1:
        return ">99.9 %"
    whole = 0.1 <= part <= 0.99 or part in (0, 1)
    return percent(part, 0 if whole else 1)


def _accepting(tolerated: tuple[float | None, float | None], questions: int, samples: int) -> Gate:
    """The gate for a range of values (None: open), rounded as `isclose` rounds them."""
    low, high = tolerated
    return within(
        questions,
        samples,
        -math.inf if low is None else low - isclose_rule.ATOL,
        math.inf if high is None else high + isclose_rule.ATOL,
        isclose_rule.ROUNDED_DIGITS,
    )
