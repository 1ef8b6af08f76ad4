"""Sentences about the differences of log-probabilities."""

from __future__ import annotations

from runner.compare.numerics import Numerics, Spread
from runner.config.verdict import NumericsConfig


def shifts(found: Numerics) -> str:
    """Return how far log-probabilities differ; empty without pairs."""
    said = []
    unit = "nats" if found.summed else "nats per token"
    for spread, what, of in (
        (found.tokens, "Token log-probabilities", "nats"),
        (found.choices, "Log-likelihoods of the scored choices", unit),
    ):
        if spread is not None:
            said.append(f"{what} {_moved(spread, found.pairs, of)}.")
    if found.pairs and not said:
        return "No log-probabilities could be compared."
    return " ".join(said)


def _moved(spread: Spread, pairs: int, unit: str) -> str:
    """Size of the shifts, and the number of pairs they come from."""
    of = f"{spread.pairs} of {pairs}" if spread.pairs < pairs else f"all {pairs}"
    lost = f"{spread.lost:,} are NaN, or infinite in one run only" if spread.lost else ""
    if not spread.n:
        told = "cannot be compared"
    elif spread.worst == 0:
        told = f"are identical ({spread.n:,} values from {of} pairs)"
    else:
        told = (
            f"differ by {spread.median:.2g} {unit} (median), {spread.p99:.2g} (99th percentile) "
            f"and at most {spread.worst:.2g} ({spread.n:,} values from {of} pairs)"
        )
    return f"{told}; {lost}" if lost else told


def judged(found: Numerics) -> str:
    """Return the result of the rule `numerics` with its default limits."""
    spread, limits = found.tokens or found.choices, NumericsConfig()
    if spread is None or spread.worst == 0 or limits.median is None or limits.p99 is None:
        return ""
    allowed = (
        f"the limits of verdict=numerics (median {limits.median:g}, 99th percentile {limits.p99:g})"
    )
    if spread.median <= limits.median and spread.p99 <= limits.p99 and not spread.lost:
        return f"This is within {allowed}."
    if found.tokens is None and found.summed and not spread.lost:
        return (
            "The number of tokens of the choices was not recorded, so these sums can't be compared "
            f"with {allowed}."
        )
    return f"This exceeds {allowed}: the runs do not compute the same values."


def other_tokens(found: Numerics) -> str:
    """Return how many pairs have prompts with different numbers of tokens; empty without any."""
    if not found.other_tokens:
        return ""
    return (
        f"In {found.other_tokens} of {found.pairs} pairs, the same text and pixels produced a "
        "different number of prompt tokens: the tokenizer or the image preprocessing differs. "
        "Their log-probabilities are not compared."
    )
