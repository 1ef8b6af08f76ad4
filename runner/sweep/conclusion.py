"""The result of a sweep in one sentence, and the number of its verdicts."""

from __future__ import annotations

from runner.language import gettext, ngettext
from runner.sweep.axis_findings import amount, clauses, names
from runner.sweep.comparison import Comparison
from runner.sweep.summary import Axis, MetricId, Sweep


def answer(sweep: Sweep, comparisons: tuple[Comparison, ...]) -> str:
    """Return the result in one sentence: `tp changes canary acc: −4.6 points (4 vs 1)`."""
    moving = [each for each in comparisons if each.moves]
    if moving:
        most: dict[tuple[MetricId, Axis], Comparison] = {}
        for each in sorted(moving, key=lambda each: -abs(each.effect.difference)):
            most.setdefault((each.metric, each.axis), each)
        return clauses([_movement(each) for each in most.values()])
    if not comparisons:
        if any(point.metrics for point in sweep.points):
            return gettext("No two points could be compared")
        return gettext("No point was measured")
    metrics = names(list(dict.fromkeys(each.metric.name for each in comparisons)))
    if all(each.effect.identical for each in comparisons):
        return gettext(
            "No axis changes {metrics}: all compared points gave the same answers", metrics=metrics
        )
    widest = max(comparisons, key=lambda each: each.detectable)
    if widest.effect.share and widest.detectable > 1:
        return gettext(
            "No significant effect on {metrics}: too few questions to detect any difference",
            metrics=metrics,
        )
    return gettext(
        "No significant effect on {metrics} (detectable difference: {difference})",
        metrics=metrics,
        difference=amount(widest.detectable, widest.effect.share, sign=False),
    )


def _movement(comparison: Comparison) -> str:
    axis = comparison.axis
    return gettext(
        "{axis} changes {metric}: {difference} ({value} vs {reference})",
        axis=axis.short,
        metric=comparison.metric.name,
        difference=amount(comparison.effect.difference, comparison.effect.share),
        value=axis.name(comparison.value),
        reference=axis.name(comparison.reference),
    )


def counted_verdicts(sweep: Sweep) -> str:
    """Return `4 points: 3 PASSED, 1 FAILED`."""
    ended = gettext(", ").join(f"{count} {state}" for state, count in sweep.counts().items())
    return ngettext(
        "{count} point: {verdicts}", "{count} points: {verdicts}", len(sweep.points), verdicts=ended
    )
