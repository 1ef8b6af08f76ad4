"""What stands beneath a verdict, in a sentence: test, bound, and what could have been seen."""

from __future__ import annotations

import math

from runner.status import Status
from runner.verdict.result import MetricVerdict, ReferenceUsed


def beneath(metric: MetricVerdict) -> str:
    """Empty where the metric was not judged, or its rule has no more to say."""
    parts = []
    if metric.p is not None:
        adjusted = metric.p_adjusted is not None and metric.p_adjusted != metric.p
        also = f", {metric.p_adjusted:.2g} among all metrics (Holm)" if adjusted else ""
        parts.append(f"{metric.test}, one-sided p = {metric.p:.2g}{also}")
    if metric.drop is not None and metric.upper is not None:
        bound = f"{metric.upper:+.4f}" if math.isfinite(metric.upper) else "any"
        parts.append(f"drop {metric.drop:+.4f}, at most {bound} (95 %), margin {metric.margin:g}")
    if metric.detectable:
        parts.append(f"a drop of {metric.detectable:.4f} would have failed in 4 of 5 such runs")
    if metric.samples_to_decide is not None and metric.status is not Status.FAILED:
        parts.append(_samples(metric))
    return "; ".join([*parts, *filter(None, [metric.evidence])])


def reference(used: ReferenceUsed) -> str:
    """The run that another was judged against."""
    run = f", MLflow run {used.run_id}" if used.run_id else ""
    judged = f", itself {used.status}" if used.status else ""
    return (
        f"{used.name}: {used.model} on {used.platform} ({used.layout}){judged}; engine "
        f"{used.engine_fingerprint}, evaluation {used.evaluation_fingerprint}{run}; "
        f"{used.directory}"
    )


def _samples(metric: MetricVerdict) -> str:
    count = f"{metric.samples_to_decide:,} samples"
    if metric.margin is None:
        return f"with {count} a run without a drop passes in 19 of 20"
    return f"about {count} would decide at this margin"
