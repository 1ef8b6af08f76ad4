"""The boundary of a verdict: the values that a rule tolerates. Every figure draws these numbers."""

from __future__ import annotations

from runner.language import gettext
from runner.verdict import isclose
from runner.verdict.result import MetricVerdict
from runner.verdict.rule import Case

# The lowest and the highest tolerated value, in the metric's own unit; None for an open end.
Range = tuple[float | None, float | None]


def of_case(case: Case, baseline: float | None) -> Range | None:
    """Return the range of the rule that judges the metric.

    None without a baseline, or if it is unknown whether higher values are better.
    """
    settings = case.settings
    if baseline is None:
        return None
    if settings.rule == "isclose":
        stated = case.stated.tolerance if case.stated is not None else None
        return isclose.tolerated(baseline, settings.rtol, stated)
    higher = settings.higher_is_better
    higher = case.result.higher_is_better if higher is None else higher
    return None if higher is None else of_margin(baseline, settings.margin, higher)


def of_margin(baseline: float, margin: float, higher_is_better: bool) -> Range:
    """Return the range that ends `margin` on the worse side of the baseline."""
    return (baseline - margin, None) if higher_is_better else (None, baseline + margin)


def of_limit(limit: float | None) -> Range | None:
    """Return the range up to a limit; None if there is none."""
    return None if limit is None else (None, limit)


def outside(metric: MetricVerdict) -> bool:
    """Return whether the value is beyond the boundary; False if there is none."""
    if metric.tolerated is None or metric.value is None:
        return False
    low, high = metric.tolerated
    value, slack = metric.value, isclose.ATOL
    if metric.rule == "isclose":
        value = round(value, isclose.ROUNDED_DIGITS)
    return (low is not None and value < low - slack) or (high is not None and value > high + slack)


def said(tolerated: Range | None) -> str:
    """Return `tolerated 0.762 to 0.842`, `tolerated from 0.780`, or nothing."""
    low, high = tolerated or (None, None)
    if low is not None and high is not None:
        return gettext("tolerated {low:.3f} to {high:.3f}", low=low, high=high)
    if low is not None:
        return gettext("tolerated from {low:.3f}", low=low)
    return "" if high is None else gettext("tolerated up to {high:.3f}", high=high)
