"""Sentences about the effect of each axis: size, uncertainty and significance."""

from __future__ import annotations

from runner.report.terminal import counted
from runner.sweep.comparison import Comparison, measured_apart
from runner.sweep.effects import Effect
from runner.sweep.summary import Axis, MetricId, Sweep

# Keeps terminal output short; sweep.md has a table of all.
SPELLED_OUT = 3
TEXTS_DIFFER = "answers are sampled with other seeds, so texts are not compared"
SAME_SEEDS = " (sampled with equal seeds)"


def answer(sweep: Sweep, comparisons: tuple[Comparison, ...]) -> str:
    """Return the result in one sentence: `tp changes canary acc: −4.6 points (4 vs 1)`."""
    moving = [each for each in comparisons if each.moves]
    if moving:
        most: dict[tuple[MetricId, Axis], Comparison] = {}
        for each in sorted(moving, key=lambda each: -abs(each.effect.difference)):
            most.setdefault((each.metric, each.axis), each)
        return _listed([_movement(each) for each in most.values()], "; ")
    if not comparisons:
        measured = any(point.metrics for point in sweep.points)
        return "No two points could be compared" if measured else "No point was measured"
    metrics = _listed(list(dict.fromkeys(each.metric.name for each in comparisons)), ", ")
    if all(each.effect.identical for each in comparisons):
        return f"No axis changes {metrics}: all compared points gave the same answers"
    widest = max(comparisons, key=lambda each: each.detectable)
    if widest.effect.share and widest.detectable > 1:
        return f"No significant effect on {metrics}: too few questions to detect any difference"
    would = amount(widest.detectable, widest.effect.share, sign=False)
    return f"No significant effect on {metrics} (detectable difference: {would})"


def _movement(comparison: Comparison) -> str:
    axis = comparison.axis
    difference = amount(comparison.effect.difference, comparison.effect.share)
    against = f"{axis.name(comparison.value)} vs {axis.name(comparison.reference)}"
    return f"{axis.short} changes {comparison.metric.name}: {difference} ({against})"


def counted_verdicts(sweep: Sweep) -> str:
    """Return `4 points: 3 PASSED, 1 FAILED`."""
    ended = ", ".join(f"{count} {state}" for state, count in sweep.counts().items())
    return f"{counted(len(sweep.points), 'point')}: {ended}"


def axis_lines(
    sweep: Sweep, comparisons: tuple[Comparison, ...], axis: Axis, metric: MetricId
) -> list[str]:
    """Return a line on the effect of an axis on a metric, then one for each notable value."""
    mine = [each for each in comparisons if each.axis == axis and each.metric == metric]
    name = axis.short if len(sweep.compared) == 1 else f"{axis.short}, {metric.name}"
    better = sweep.higher_is_better(metric)
    if not mine:
        if measured_apart(sweep, metric, axis):
            return [
                f"{name}: not tested, no two points have scores on the same question (metrics that "
                "are not means over questions cannot be tested)"
            ]
        return [f"{name}: nothing to compare, no two measured points differ only in this axis"]
    compared = {mine[0].reference, *(each.value for each in mine)}
    left = [axis.name(value) for value in axis.values if value not in compared]
    rest = f"; not compared: {_listed(left, ', ')}" if left else ""
    if any(each.effect.drawn for each in mine):
        rest = f"; {TEXTS_DIFFER}{rest}"
    if len(mine) == 1:
        return [f"{name}: {finding(mine[0], better)}{rest}"]
    changed = [each for each in mine if not each.effect.identical]
    against = axis.name(mine[0].reference)
    if not changed:
        counts = sorted({each.effect.answers for each in mine})
        seeded = SAME_SEEDS if any(each.effect.seeded for each in mine) else ""
        asked = " or ".join(map(str, counts)) if len(counts) < 3 else f"{counts[0]} to {counts[-1]}"
        unpaired = max(each.effect.unpaired for each in mine)
        apart = f"; up to {unpaired} questions could not be paired" if unpaired else ""
        values = f"all {len(compared)}" if not left else f"{len(compared)} of {len(axis.values)}"
        return [f"{name}: the same {asked} answers at {values} values{seeded}{apart}{rest}"]
    told = sorted(changed, key=lambda each: (each.p_holm, -abs(each.effect.difference)))
    told = sorted(told[:SPELLED_OUT], key=mine.index)
    moving = sum(each.moves for each in mine)
    head = (
        f"{name}: {_count(moving)} of {len(mine)} values differ significantly from the reference "
        f"({against})"
    )
    if len(changed) < len(mine):
        head += f", {len(mine) - len(changed)} give the same answers"
    if len(changed) > len(told):
        head += f" ({len(told)} most significant shown; sweep.md has all)"
    return [head + rest, *(finding(each, better) for each in told)]


def finding(comparison: Comparison, higher_is_better: bool) -> str:
    """Return `4 vs 1 (3 pairs of points): −3.2 points (95 % −5.1 to −1.3), 12 answers …`."""
    axis, seen = comparison.axis, comparison.effect
    against = f"{axis.name(comparison.value)} vs {axis.name(comparison.reference)}"
    pairs = ""
    if seen.pairs < comparison.possible:
        pairs = f" ({seen.pairs} of {comparison.possible} pairs of points)"
    elif seen.pairs > 1:
        pairs = f" ({seen.pairs} pairs of points)"
    unpaired = (
        f"; {counted(seen.unpaired, 'question')} could not be paired" if seen.unpaired else ""
    )
    return f"{against}{pairs}: {_found(comparison, higher_is_better)}{unpaired}"


def amount(value: float, share: bool, sign: bool = True) -> str:
    """Return a difference in percentage points if scores are shares, else in the metric's unit."""
    text = (
        f"{100 * value:{'+' if sign else ''}.1f}" if share else f"{value:{'+' if sign else ''}.4g}"
    )
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−") + (" points" if share else "")


def probability(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _found(comparison: Comparison, higher_is_better: bool) -> str:
    seen = comparison.effect
    if seen.identical:
        same = "the same answer" if seen.answers == 1 else f"the same {seen.answers} answers"
        return same + (SAME_SEEDS if seen.seeded else "")
    if not seen.up + seen.down:
        said = f"the same score on all {counted(seen.n, 'question')}"
        return f"{said}, although {_differ(seen)}" if seen.answers_differ else said
    better, worse = seen.changes(higher_is_better)
    unit = "questions" if seen.repeated else "answers"
    changes = f"{better} {unit} better, {worse} worse, {probability(comparison.p_holm)} after Holm"
    if comparison.moves:
        low, high = seen.interval or (seen.difference, seen.difference)
        share = seen.share
        bounds = f"{amount(low, share)} to {amount(high, share)}".replace(" points to", " to")
        return (
            f"{amount(seen.difference, share)} (95 % {bounds.removesuffix(' points')}), "
            f"{changes} ({seen.test}): significant"
        )
    return (
        f"{amount(seen.difference, seen.share)}, {changes} ({seen.test}): not significant "
        f"({_detectable(comparison)} with {counted(seen.n, 'question')})"
    )


def _differ(seen: Effect) -> str:
    if seen.repeated:
        return f"answers to {counted(seen.answers_differ, 'question')} differ"
    verb = "differs" if seen.answers_differ == 1 else "differ"
    return f"{counted(seen.answers_differ, 'answer')} {verb}"


def _detectable(comparison: Comparison) -> str:
    if comparison.effect.share and comparison.detectable > 1:
        return "no difference is detectable"
    would = amount(comparison.detectable, comparison.effect.share, sign=False)
    return f"detectable difference: {would}"


def _listed(parts: list[str], between: str) -> str:
    more = f"{between}and {len(parts) - SPELLED_OUT} more" if len(parts) > SPELLED_OUT else ""
    return between.join(parts[:SPELLED_OUT]) + more


def _count(number: int) -> str:
    return str(number) if number else "none"
