"""Perplexities of two runs, compared by the log-likelihoods of the same texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from runner.evidence.samples import Sample
from runner.language import gettext
from runner.stats import drops
from runner.stats.clusters import in_clusters
from runner.stats.drops import Drop
from runner.stats.limits import Limits
from runner.verdict.limits import require_many
from runner.verdict.rule import Case
from runner.verdict.scores import Unusable, clustered, clusters

# lm-eval's metrics that are exp(-L / U), of the summed log-likelihood L of all texts and the number
# U of their samples (perplexity), words or bytes (lm_eval/api/metrics.py).
METRICS = ("perplexity", "word_perplexity", "byte_perplexity")


def rise(case: Case) -> tuple[Drop, float] | None:
    """Return the rise of a perplexity and the reference run's value; None for any other metric.

    Both runs have the same texts, thus the same U. So the logarithm of the ratio of the
    perplexities, r = (L_reference - L_run) / U, is a mean of the samples' differences, and tested
    as such. exp is monotone: the rise and its bound are P_reference (exp(r) - 1).

    None as well if the log-likelihoods do not explain the reported values of both runs.

    Raises:
        Unusable: if there are too few texts, several reference runs, or a document lacks the field
            in `verdict.cluster`.
    """
    assert case.pairing is not None
    if case.result.metric not in METRICS or case.settings.higher_is_better is True:
        return None
    reference_run, run = zip(*case.pairing.pairs, strict=True)
    if any(each.rows for each in reference_run) and not any(each.rows for each in run):
        raise Unusable(
            gettext(
                "{metric} is compared with one reference run only; give one run in "
                "verdict.reference",
                metric=case.result.metric,
            )
        )
    before, after = _log_likelihoods(reference_run), _log_likelihoods(run)
    n, value = case.result.n, case.result.value
    if before is None or after is None or len(after) != n or not value > 1:
        return None
    units = -math.fsum(after) / math.log(value)
    if not units > 0:
        return None
    reference = _exp(-math.fsum(before) / units)
    if case.limited:  # the reference run's value is that of more texts
        explained = math.isclose(units, n, rel_tol=1e-6)
    else:
        explained = math.isclose(reference, case.baseline or 0.0, rel_tol=1e-6)
    if not explained:
        return None
    require_many(case, n)
    rises = [n / units * (one - other) for one, other in zip(before, after, strict=True)]
    seen = Limits(min(*before, *after), max(*before, *after), known=False)
    found = drops.of_differences(rises, seen.differences().times(n / units))
    groups = clusters(run, case)
    if clustered(case, groups):
        found = in_clusters(found, rises, groups, case.settings.cluster != "subject")
    # Errors are those of the logarithm times the slope of exp at the estimate.
    slope = reference * _exp(found.drop)
    risen = replace(
        found,
        drop=reference * (_exp(found.drop) - 1),
        upper=reference * (_exp(found.upper) - 1),
        stderr=slope * found.stderr,
        spread=slope * found.spread,
        step=slope * found.step,
        chances=found.chances.in_unit(slope),
    )
    return risen, reference


def _log_likelihoods(samples: Sequence[Sample]) -> list[float] | None:
    """The log-likelihood of each sample's text; None unless each has exactly one."""
    if any(len(each.choice_logprobs) != 1 or each.rows for each in samples):
        return None
    values = [each.choice_logprobs[0] for each in samples]
    return values if all(map(math.isfinite, values)) else None


def _exp(value: float) -> float:
    """exp, infinite where that is too large for a float."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
