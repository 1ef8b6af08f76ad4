"""A comparison as a sentence: what moved, by how much, and how sure that is."""

from __future__ import annotations

from runner.sweep.comparison import Comparison
from runner.sweep.summary import Axis, MetricId, Sweep

# A terminal's worth; sweep.md has a table of all.
SPELLED_OUT = 3


def axis_lines(
    sweep: Sweep, comparisons: tuple[Comparison, ...], axis: Axis, metric: MetricId
) -> list[str]:
    """What one axis does to one metric: a line, and one below it for each value that says most."""
    mine = [each for each in comparisons if each.axis == axis and each.metric == metric]
    name = axis.short if len(sweep.compared) == 1 else f"{axis.short}, {metric.name}"
    better = sweep.higher_is_better(metric)
    if not mine:
        return [f"{name}: nothing to compare, no two measured points differ in it alone"]
    if len(mine) == 1:
        return [f"{name}: {finding(mine[0], better)}"]
    changed = [each for each in mine if not each.effect.identical]
    against = axis.name(mine[0].reference)
    if not changed:
        counts = sorted({each.effect.n for each in mine})
        asked = " or ".join(map(str, counts)) if len(counts) < 3 else f"{counts[0]} to {counts[-1]}"
        return [f"{name}: the same {asked} answers at all {len(mine) + 1} values"]
    told = sorted(changed, key=lambda each: (each.p_holm, -abs(each.effect.difference)))
    told = sorted(told[:SPELLED_OUT], key=mine.index)
    moving = sum(each.moves for each in mine)
    head = f"{name}: {_count(moving)} of {len(mine)} values differ from {against} in accuracy"
    if len(changed) < len(mine):
        head += f", {len(mine) - len(changed)} give the same answers"
    if len(changed) > len(told):
        head += f" (the {len(told)} that say most; sweep.md has all)"
    return [head, *(finding(each, better) for each in told)]


def finding(comparison: Comparison, higher_is_better: bool) -> str:
    """`4 against 1 (3 pairs of points): −3.2 points (95 % −5.1 to −1.3), 12 answers better, …`."""
    axis, seen = comparison.axis, comparison.effect
    against = f"{axis.name(comparison.value)} against {axis.name(comparison.reference)}"
    pairs = f" ({seen.pairs} pairs of points)" if seen.pairs > 1 else ""
    unpaired = f"; {seen.unpaired} questions could not be paired" if seen.unpaired else ""
    return f"{against}{pairs}: {_found(comparison, higher_is_better)}{unpaired}"


def amount(value: float, share: bool, sign: bool = True) -> str:
    """A difference in points of a hundred where scores are shares, else in the metric's unit."""
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
        return f"the same {seen.n} answers"
    if not seen.up + seen.down:
        return (
            f"the same score on all {seen.n} questions, although {seen.responses_differ} "
            "responses differ"
        )
    better, worse = (seen.up, seen.down) if higher_is_better else (seen.down, seen.up)
    changes = f"{better} answers better, {worse} worse, {probability(comparison.p_holm)} after Holm"
    if comparison.moves:
        low, high = seen.interval or (seen.difference, seen.difference)
        share = seen.share
        bounds = f"{amount(low, share)} to {amount(high, share)}".replace(" points to", " to")
        return (
            f"{amount(seen.difference, share)} (95 % {bounds.removesuffix(' points')}), "
            f"{changes} ({seen.test}): it moves {'accuracy' if share else 'the score'}"
        )
    would = amount(comparison.detectable, seen.share, sign=False)
    return (
        f"{amount(seen.difference, seen.share)}, {changes} ({seen.test}): no difference that these "
        f"{seen.n} questions could show (they would have shown {would})"
    )


def _count(number: int) -> str:
    return str(number) if number else "none"
