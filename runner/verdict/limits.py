"""Limits of a metric's scores, and what cannot be judged because of them."""

from __future__ import annotations

from collections.abc import Sequence

from runner.config.metric_limits import LIMITS
from runner.language import gettext, ngettext
from runner.stats.limits import Limits
from runner.stats.resampling import FEW
from runner.verdict.rule import Case
from runner.verdict.scores import Unusable


def limits_of(metric: str, values: Sequence[float]) -> Limits:
    """Return the declared limits of the metric's scores; 0 and 1 if all values are within them.

    Otherwise, the smallest and the largest of `values` are returned as limits that are not known.
    """
    low, high = min(values), max(values)
    for least, most in (LIMITS.get(metric, (0.0, 1.0)), (0.0, 1.0)):
        if least <= low and high <= most:
            return Limits(least, most)
    return Limits(low, high, known=False)


def usable_limits(case: Case, values: Sequence[float], n: int) -> Limits:
    """Return the limits of the metric's scores, for n samples; `values` are the scores seen.

    Raises:
        Unusable: if they are unknown, and the samples too few or too equal to judge without them.
    """
    found = limits_of(case.result.metric, values)
    if not found.known:
        require_many(case, n)
        if found.span == 0:
            raise Unusable(
                gettext(
                    "all scores are {score:g}, and {unknown}",
                    score=found.low,
                    unknown=_unknown(case),
                )
            )
    return found


def require_many(case: Case, n: int) -> None:
    """Check that a metric whose scores have no known limits has enough samples.

    Raises:
        Unusable: if it has not.
    """
    if n < FEW:
        raise Unusable(
            ngettext(
                "{count} sample is not enough, because {unknown}; use at least {least}",
                "{count} samples are not enough, because {unknown}; use at least {least}",
                n,
                unknown=_unknown(case),
                least=FEW,
            )
        )


def require_failable(case: Case, drops: Limits) -> None:
    """Check that a drop larger than the margin is possible, as far as the limits are known.

    Raises:
        Unusable: if the largest possible drop is not above the margin.
    """
    margin = case.settings.margin
    if drops.known and margin >= drops.high:
        raise Unusable(
            gettext(
                "the margin is {margin:g}, but the score can drop by at most {most:g}, so the rule "
                "could not fail; set a smaller margin",
                margin=margin,
                most=drops.high,
            )
        )


def assumption(limits: Limits) -> str:
    """Describe what the bound assumes if the limits are unknown; empty if they are known."""
    if limits.known:
        return ""
    return gettext(
        "the possible range of scores is unknown (here {low:g} to {high:g}): the bound assumes "
        "that no rare, larger losses are missing from these samples",
        low=limits.low,
        high=limits.high,
    )


def _unknown(case: Case) -> str:
    return gettext(
        "the smallest and the largest possible score of {metric} are unknown",
        metric=case.result.metric,
    )
