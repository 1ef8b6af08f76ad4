"""Sentences about answers that are sampled at random."""

from __future__ import annotations

from runner.compare.comparison import Comparison
from runner.compare.distributions import Distribution, Share
from runner.present.formats import of
from runner.sweep.axis_findings import probability


def equality(comparison: Comparison) -> str:
    """Return how many sampled answers have equal texts, and why the others differ.

    Empty if no answers are sampled.
    """
    found, settings = comparison.draws, comparison.settings
    if found is None:
        return ""
    sampled = (
        f"{found.first:,} answers of A and {found.second:,} of B are sampled at random; their "
        "log-probabilities are not compared."
    )
    if not found.seeded:
        return f"{sampled} No two were recorded with equal seeds, so texts differ by chance."
    equal = f"Of {found.seeded:,} pairs with equal seeds, {found.alike:,} are identical"
    if found.alike == found.seeded:
        return f"{sampled} {equal}."
    if settings.count or not (settings.same_engine and settings.same_evaluation):
        return f"{sampled} {equal}; the others are different draws, which alone show no fault."
    return (
        f"{sampled} {equal}; the others are different draws, although nothing recorded differs: "
        "the engine does not repeat its draws exactly."
    )


def distributions(comparison: Comparison) -> list[str]:
    """Return a sentence on the lengths and shares of the sampled answers of each task."""
    several = len(comparison.distributions) > 1
    return [
        (f"{each.task}: " if several else "") + distribution(each)
        for each in comparison.distributions
    ]


def distribution(found: Distribution) -> str:
    """Return `Median answer length: 812 tokens in A, 845 in B (p = 0.21); stopped at …`."""
    lengths = found.lengths
    parts = [
        f"Median answer length: {lengths.first[1]:,.0f} {lengths.unit} in A, "
        f"{lengths.second[1]:,.0f} in B ({probability(lengths.p)})",
        *(f"{each.name}: {counts(found, each)}" for each in found.shares),
    ]
    return f"{'; '.join(parts)}."


def counts(found: Distribution, share: Share) -> str:
    """Return `7 (2.9 %) in A, 17 (7.1 %) in B (p = 0.041)`."""
    first, second = of(share.first, found.answers[0]), of(share.second, found.answers[1])
    tested = f" ({probability(share.p)})" if share.p is not None else ""
    return f"{first} in A, {second} in B{tested}"
