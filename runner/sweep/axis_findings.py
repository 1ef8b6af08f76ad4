"""Sentences about the effect of each axis: size, uncertainty and significance."""

from __future__ import annotations

from functools import partial

from runner.language import gettext, ngettext
from runner.stats.clusters import test_name
from runner.sweep.comparison import Comparison, measured_apart
from runner.sweep.effects import Effect
from runner.sweep.summary import Axis, MetricId, Sweep

# Keeps terminal output short; sweep.md has a table of all.
SPELLED_OUT = 3


def axis_lines(
    sweep: Sweep, comparisons: tuple[Comparison, ...], axis: Axis, metric: MetricId
) -> list[str]:
    """Return a line on the effect of an axis on a metric, then one for each notable value."""
    mine = [each for each in comparisons if each.axis == axis and each.metric == metric]
    name = axis.short
    if len(sweep.compared) > 1:
        name = gettext("{axis}, {metric}", axis=axis.short, metric=metric.name)
    if not mine:
        return [_incomparable(name, apart=measured_apart(sweep, metric, axis))]
    better = sweep.higher_is_better(metric)
    changed = [each for each in mine if not each.effect.identical]
    told: list[Comparison] = []
    if len(mine) == 1:
        said = [finding(mine[0], better)]
    elif not changed:
        said = _unchanged(axis, mine)
    else:
        told = sorted(changed, key=lambda each: (each.p_holm, -abs(each.effect.difference)))
        told = sorted(told[:SPELLED_OUT], key=mine.index)
        said = [_changed(mine, len(changed), len(told))]
    if any(each.effect.drawn for each in mine):
        said.append(gettext("answers are sampled with other seeds, so texts are not compared"))
    compared = {mine[0].reference, *(each.value for each in mine)}
    if left := [axis.name(value) for value in axis.values if value not in compared]:
        said.append(gettext("not compared: {values}", values=names(left)))
    head = gettext("{subject}: {finding}", subject=name, finding=gettext("; ").join(said))
    return [head, *(finding(each, better) for each in told)]


def _incomparable(name: str, apart: bool) -> str:
    """`apart` says that two points that differ only in this axis were measured."""
    if apart:
        return gettext(
            "{axis}: not tested, no two points have scores on the same question (metrics that are "
            "not means over questions cannot be tested)",
            axis=name,
        )
    return gettext(
        "{axis}: nothing to compare, no two measured points differ only in this axis", axis=name
    )


def _unchanged(axis: Axis, mine: list[Comparison]) -> list[str]:
    """Clauses on values that all give the same answers as the reference."""
    counts = sorted({each.effect.answers for each in mine})
    asked = str(counts[0])
    if len(counts) == 2:
        asked = gettext("{first} or {second}", first=counts[0], second=counts[1])
    elif len(counts) > 2:
        asked = gettext("{low} to {high}", low=counts[0], high=counts[-1])
    values = len(mine) + 1
    if values == len(axis.values):
        said = gettext(
            "the same {answers} answers at all {values} values", answers=asked, values=values
        )
    else:
        said = gettext(
            "the same {answers} answers at {values} of {possible} values",
            answers=asked,
            values=values,
            possible=len(axis.values),
        )
    if any(each.effect.seeded for each in mine):
        said = _seeded(said)
    unpaired = max(each.effect.unpaired for each in mine)
    if not unpaired:
        return [said]
    return [said, gettext("up to {count} questions could not be paired", count=unpaired)]


def _changed(mine: list[Comparison], changed: int, told: int) -> str:
    """The line above the values of which at least one gives other answers than the reference."""
    moving, reference = sum(each.moves for each in mine), mine[0].axis.name(mine[0].reference)
    if moving:
        said = gettext(
            "{moving} of {values} values differ significantly from the reference ({reference})",
            moving=moving,
            values=len(mine),
            reference=reference,
        )
    else:
        said = gettext(
            "none of {values} values differ significantly from the reference ({reference})",
            values=len(mine),
            reference=reference,
        )
    if changed < len(mine):
        said = gettext(
            "{finding}, {count} give the same answers", finding=said, count=len(mine) - changed
        )
    if changed > told:
        said = gettext(
            "{finding} ({count} most significant shown; sweep.md has all)",
            finding=said,
            count=told,
        )
    return said


def finding(comparison: Comparison, higher_is_better: bool) -> str:
    """Return `4 vs 1 (3 pairs of points): −3.2 points (95 % −5.1 to −1.3), 12 answers …`."""
    seen = comparison.effect
    said = [_found(comparison, higher_is_better)]
    if seen.unpaired:
        said.append(
            ngettext(
                "{count} question could not be paired",
                "{count} questions could not be paired",
                seen.unpaired,
            )
        )
    return gettext(
        "{subject}: {finding}", subject=_settings(comparison), finding=gettext("; ").join(said)
    )


def settings(comparison: Comparison) -> str:
    """Return `4 vs 1`."""
    axis = comparison.axis
    return gettext(
        "{value} vs {reference}",
        value=axis.name(comparison.value),
        reference=axis.name(comparison.reference),
    )


def _settings(comparison: Comparison) -> str:
    """The settings, with the number of pairs of points if it is not one."""
    pairs, possible, said = comparison.effect.pairs, comparison.possible, settings(comparison)
    if pairs < possible:
        return gettext(
            "{settings} ({pairs} of {possible} pairs of points)",
            settings=said,
            pairs=pairs,
            possible=possible,
        )
    if pairs > 1:
        return gettext("{settings} ({pairs} pairs of points)", settings=said, pairs=pairs)
    return said


def amount(value: float, share: bool, sign: bool = True, unit: bool = True) -> str:
    """Return a difference in percentage points if scores are shares, else in the metric's unit."""
    text = (
        f"{100 * value:{'+' if sign else ''}.1f}" if share else f"{value:{'+' if sign else ''}.4g}"
    )
    if float(text) == 0:
        text = text.lstrip("+-")
    text = text.replace("-", "−")
    return gettext("{number} points", number=text) if share and unit else text


def probability(p: float, named: bool = True) -> str:
    """Return `p = 0.21` or `p < 0.001`; in a column of p values `0.21` or `< 0.001`."""
    if p < 0.001:
        return "p < 0.001" if named else "< 0.001"
    value = f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"p = {value}" if named else value


bare_probability = partial(probability, named=False)


def _found(comparison: Comparison, higher_is_better: bool) -> str:
    seen = comparison.effect
    if seen.identical:
        same = ngettext("the same answer", "the same {count} answers", seen.answers)
        return _seeded(same) if seen.seeded else same
    if not seen.up + seen.down:
        same = ngettext(
            "the same score on all {count} question",
            "the same score on all {count} questions",
            seen.n,
        )
        if not seen.answers_differ:
            return same
        return gettext("{same}, although {different}", same=same, different=_differ(seen))
    difference = amount(seen.difference, seen.share)
    changes = _changes(comparison, higher_is_better)
    if comparison.moves:
        low, high = seen.interval or (seen.difference, seen.difference)
        return gettext(
            "{difference} (95 % {low} to {high}), {changes}: significant",
            difference=difference,
            low=amount(low, seen.share, unit=False),
            high=amount(high, seen.share, unit=False),
            changes=changes,
        )
    return gettext(
        "{difference}, {changes}: not significant ({detectable})",
        difference=difference,
        changes=changes,
        detectable=_detectable(comparison),
    )


def _seeded(same: str) -> str:
    return gettext("{same} (sampled with equal seeds)", same=same)


def _changes(comparison: Comparison, higher_is_better: bool) -> str:
    """How many questions changed, and what the test says of it."""
    seen = comparison.effect
    better, worse = seen.changes(higher_is_better)
    p, test = probability(comparison.p_holm), test_name(seen.test)
    if seen.repeated:
        return gettext(
            "{better} questions better, {worse} worse, {p} after Holm ({test})",
            better=better,
            worse=worse,
            p=p,
            test=test,
        )
    return gettext(
        "{better} answers better, {worse} worse, {p} after Holm ({test})",
        better=better,
        worse=worse,
        p=p,
        test=test,
    )


def _differ(seen: Effect) -> str:
    if seen.repeated:
        return ngettext(
            "answers to {count} question differ",
            "answers to {count} questions differ",
            seen.answers_differ,
        )
    return ngettext("{count} answer differs", "{count} answers differ", seen.answers_differ)


def _detectable(comparison: Comparison) -> str:
    seen = comparison.effect
    if seen.share and comparison.detectable > 1:
        return ngettext(
            "no difference is detectable with {count} question",
            "no difference is detectable with {count} questions",
            seen.n,
        )
    return ngettext(
        "detectable difference: {difference} with {count} question",
        "detectable difference: {difference} with {count} questions",
        seen.n,
        difference=amount(comparison.detectable, seen.share, sign=False),
    )


def clauses(parts: list[str]) -> str:
    """Join the first clauses, and count the others."""
    first, more = gettext("; ").join(parts[:SPELLED_OUT]), len(parts) - SPELLED_OUT
    return gettext("{first}; and {count} more", first=first, count=more) if more > 0 else first


def names(parts: list[str]) -> str:
    """Join the first names, and count the others."""
    first, more = gettext(", ").join(parts[:SPELLED_OUT]), len(parts) - SPELLED_OUT
    return gettext("{first}, and {count} more", first=first, count=more) if more > 0 else first
