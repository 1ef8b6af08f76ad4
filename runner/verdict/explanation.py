"""Statistics behind a verdict as text: test, bound and detectable drop."""

from __future__ import annotations

import math

from runner.status import Status
from runner.verdict.result import MetricVerdict, ReferenceUsed


def beneath(metric: MetricVerdict) -> str:
    """Return test, p-value, bound and detectable drop; empty if the metric was not judged."""
    parts = []
    if metric.p is not None:
        adjusted = metric.p_adjusted is not None and metric.p_adjusted != metric.p
        also = f" ({metric.p_adjusted:.2g} after Holm correction)" if adjusted else ""
        parts.append(f"{metric.test}, one-sided p = {metric.p:.2g}{also}")
    if metric.drop is not None and metric.upper is not None:
        bound = f"{metric.upper:+.4f}" if math.isfinite(metric.upper) else "none"
        parts.append(
            f"drop {metric.drop:+.4f} (95 % upper bound {bound}, margin {metric.margin:g})"
        )
    if metric.detectable:
        parts.append(f"detectable drop {metric.detectable:.4f} (80 % power)")
    if metric.status is not Status.FAILED:
        parts += _samples(metric)
    return "; ".join([*parts, *filter(None, [metric.evidence])])


def reference(used: ReferenceUsed) -> str:
    """Describe the reference runs and the noise runs."""
    if not used.others:
        return _run(used)
    runs = "; ".join(f"({place}) {_run(each)}" for place, each in enumerate(used.runs, 1))
    return f"mean of {len(used.runs)} runs: {runs}"


def _run(used: ReferenceUsed) -> str:
    run = f", MLflow run {used.run_id}" if used.run_id else ""
    judged = f", verdict {used.status}" if used.status else ""
    place = f"; {used.directory}" if used.directory != used.name else ""
    noise = "; noise runs: " + ", ".join(map(_noise, used.noise)) if used.noise else ""
    return (
        f"{used.name}: {used.model} on {used.platform} ({used.layout}){judged}{run}; fingerprints: "
        f"engine {used.engine_fingerprint}, evaluation {used.evaluation_fingerprint}{place}{noise}"
    )


def _noise(used: ReferenceUsed) -> str:
    run = f"MLflow run {used.run_id}, " if used.run_id not in (None, used.name) else ""
    return f"{used.name} ({run}{used.platform}, {used.layout})"


def _samples(metric: MetricVerdict) -> list[str]:
    each = f" with {metric.answers} samples each" if metric.answers > 1 else ""
    to_pass, to_fail = (
        f"{count:,} {metric.unit}{each}" if count is not None else ""
        for count in (metric.samples_to_pass, metric.samples_to_fail)
    )
    if metric.margin is None:
        said = f"with {to_pass}, a run without a drop passes with 95 % probability"
        return [said] if to_pass else []
    found = [f"about {to_pass} pass a run without a drop"] if to_pass else []
    found += [f"about {to_fail} fail a drop of twice the margin"] if to_fail else []
    return [f"{' and '.join(found)} (80 % power)"] if found else []
