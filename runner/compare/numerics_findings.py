"""Sentences about the differences of log-probabilities."""

from __future__ import annotations

from runner.compare.numerics import Numerics, Spread
from runner.language import gettext


def shifts(found: Numerics) -> str:
    """Return how far log-probabilities differ; empty without pairs."""
    nats = gettext("nats")
    per_token = nats if found.summed else gettext("nats per token")
    said = [
        _moved(spread, found.pairs, what, unit)
        for spread, what, unit in (
            (found.tokens, gettext("Token log-probabilities"), nats),
            (found.choices, gettext("Log-likelihoods of the scored choices"), per_token),
        )
        if spread is not None
    ]
    if found.pairs and not said:
        return gettext("No log-probabilities could be compared.")
    return " ".join(said)


def _moved(spread: Spread, pairs: int, what: str, unit: str) -> str:
    """Size of the shifts, and the number of pairs they come from."""
    if spread.pairs < pairs:
        of = gettext("{count} of {pairs} pairs", count=spread.pairs, pairs=pairs)
    else:
        of = gettext("all {pairs} pairs", pairs=pairs)
    if not spread.n:
        told = [gettext("{what} cannot be compared", what=what)]
    elif spread.worst == 0:
        told = [
            gettext(
                "{what} are identical ({values:,} values from {pairs})",
                what=what,
                values=spread.n,
                pairs=of,
            )
        ]
    else:
        told = [
            gettext(
                "{what} differ by {median:.2g} {unit} (median), {p99:.2g} (99th percentile) and at "
                "most {worst:.2g} ({values:,} values from {pairs})",
                what=what,
                unit=unit,
                median=spread.median,
                p99=spread.p99,
                worst=spread.worst,
                values=spread.n,
                pairs=of,
            )
        ]
    if spread.lost:
        told.append(gettext("{count:,} are NaN, or infinite in one run only", count=spread.lost))
    return gettext("{clauses}.", clauses=gettext("; ").join(told))


def other_tokens(found: Numerics) -> str:
    """Return how many pairs have prompts with different numbers of tokens; empty without any."""
    if not found.other_tokens:
        return ""
    return gettext(
        "In {count} of {pairs} pairs, the same text and pixels produced a different number of "
        "prompt tokens: the tokenizer or the image preprocessing differs. Their log-probabilities "
        "are not compared.",
        count=found.other_tokens,
        pairs=found.pairs,
    )
