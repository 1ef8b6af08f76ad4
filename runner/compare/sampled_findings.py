"""Sentences about answers that are sampled at random."""

from __future__ import annotations

from runner.compare.comparison import Comparison
from runner.compare.distributions import CHARACTERS, TOKENS, Distribution, Share
from runner.language import N_, gettext
from runner.present.formats import of
from runner.sweep.axis_findings import probability

LENGTHS = {
    TOKENS: N_("Median answer length: {first:,.0f} tokens in A, {second:,.0f} in B ({p})"),
    CHARACTERS: N_("Median answer length: {first:,.0f} characters in A, {second:,.0f} in B ({p})"),
}


def equality(comparison: Comparison) -> str:
    """Return how many sampled answers have equal texts, and why the others differ.

    Empty if no answers are sampled.
    """
    found, settings = comparison.draws, comparison.settings
    if found is None:
        return ""
    sampled = gettext(
        "{first:,} answers of A and {second:,} of B are sampled at random; their log-probabilities "
        "are not compared.",
        first=found.first,
        second=found.second,
    )
    if not found.seeded:
        chance = gettext("No two were recorded with equal seeds, so texts differ by chance.")
        return gettext("{sentence} {next}", sentence=sampled, next=chance)
    told = [
        gettext(
            "Of {pairs:,} pairs with equal seeds, {alike:,} are identical",
            pairs=found.seeded,
            alike=found.alike,
        )
    ]
    if found.alike < found.seeded:
        differ = settings.count or not (settings.same_engine and settings.same_evaluation)
        told.append(
            gettext("the others are different draws, which alone show no fault")
            if differ
            else gettext(
                "the others are different draws, although nothing recorded differs: the engine "
                "does not repeat its draws exactly"
            )
        )
    equal = gettext("{clauses}.", clauses=gettext("; ").join(told))
    return gettext("{sentence} {next}", sentence=sampled, next=equal)


def distributions(comparison: Comparison) -> list[str]:
    """Return a sentence on the lengths and shares of the sampled answers of each task."""
    several = len(comparison.distributions) > 1
    return [
        gettext("{task}: {sentence}", task=each.task, sentence=distribution(each))
        if several
        else distribution(each)
        for each in comparison.distributions
    ]


def distribution(found: Distribution) -> str:
    """Return `Median answer length: 812 tokens in A, 845 in B (p = 0.21); stopped at …`."""
    lengths = found.lengths
    parts = [
        gettext(
            LENGTHS[lengths.unit],
            first=lengths.first[1],
            second=lengths.second[1],
            p=probability(lengths.p),
        ),
        *(
            gettext("{property}: {counts}", property=each.label, counts=counts(found, each))
            for each in found.shares
        ),
    ]
    return gettext("{clauses}.", clauses=gettext("; ").join(parts))


def counts(found: Distribution, share: Share) -> str:
    """Return `7 (2.9 %) in A, 17 (7.1 %) in B (p = 0.041)`."""
    values = {
        "first": of(share.first, found.answers[0]),
        "second": of(share.second, found.answers[1]),
    }
    if share.p is None:
        return gettext("{first} in A, {second} in B", **values)
    return gettext("{first} in A, {second} in B ({p})", **values, p=probability(share.p))
