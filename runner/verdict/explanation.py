"""Statistics behind a verdict as text: test, bound and detectable drop."""

from __future__ import annotations

import math

from runner.language import N_, gettext
from runner.stats.clusters import test_name
from runner.status import Status
from runner.verdict.result import MetricVerdict, ReferenceUsed


def beneath(metric: MetricVerdict) -> str:
    """Return test, p-value, bound and detectable drop; empty if the metric was not judged."""
    parts = []
    if metric.p is not None:
        if metric.p_adjusted is not None and metric.p_adjusted != metric.p:
            tested = N_("{test}, one-sided p = {p:.2g} ({adjusted:.2g} after Holm correction)")
        else:
            tested = N_("{test}, one-sided p = {p:.2g}")
        test = test_name(metric.test)
        parts.append(gettext(tested, test=test, p=metric.p, adjusted=metric.p_adjusted))
    if metric.drop is not None and metric.upper is not None:
        if math.isfinite(metric.upper):
            bounded = N_("drop {drop:+.4f} (95 % upper bound {upper:+.4f}, margin {margin:g})")
        else:
            bounded = N_("drop {drop:+.4f} (95 % upper bound none, margin {margin:g})")
        parts.append(gettext(bounded, drop=metric.drop, upper=metric.upper, margin=metric.margin))
    if metric.detectable:
        parts.append(gettext("detectable drop {drop:.4f} (80 % power)", drop=metric.detectable))
    if metric.status is not Status.FAILED:
        parts += _samples(metric)
    return gettext("; ").join([*parts, *filter(None, [metric.evidence])])


def reference(used: ReferenceUsed) -> str:
    """Describe the reference runs and the noise runs."""
    if not used.others:
        return _run(used)
    runs = gettext("; ").join(f"({place}) {_run(each)}" for place, each in enumerate(used.runs, 1))
    return gettext("mean of {count} runs: {runs}", count=len(used.runs), runs=runs)


def _run(used: ReferenceUsed) -> str:
    known = [
        gettext(
            "{name}: {model} on {platform} ({layout})",
            name=used.name,
            model=used.model,
            platform=used.platform,
            layout=used.layout,
        )
    ]
    if used.status:
        known.append(gettext("verdict {status}", status=used.status))
    if used.run_id:
        known.append(_tracked(used.run_id))
    parts = [
        gettext(", ").join(known),
        gettext(
            "fingerprints: engine {engine}, evaluation {evaluation}",
            engine=used.engine_fingerprint,
            evaluation=used.evaluation_fingerprint,
        ),
    ]
    if used.directory != used.name:
        parts.append(used.directory)
    if used.noise:
        noise = gettext(", ").join(map(_noise, used.noise))
        parts.append(gettext("noise runs: {runs}", runs=noise))
    return gettext("; ").join(parts)


def _noise(used: ReferenceUsed) -> str:
    known = [used.platform, used.layout]
    if used.run_id is not None and used.run_id != used.name:
        known.insert(0, _tracked(used.run_id))
    details = gettext(", ").join(known)
    return gettext("{name} ({details})", name=used.name, details=details)


def _tracked(run_id: str) -> str:
    return gettext("MLflow run {id}", id=run_id)


def _samples(metric: MetricVerdict) -> list[str]:
    to_pass, to_fail = (
        _counted(count, metric.answers) if count is not None else ""
        for count in (metric.samples_to_pass, metric.samples_to_fail)
    )
    if metric.margin is None and to_pass:
        said = N_("with {to_pass}, a run without a drop passes with 95 % probability")
    elif metric.margin is not None and to_pass and to_fail:
        said = N_(
            "about {to_pass} pass a run without a drop and about {to_fail} fail a drop of twice "
            "the margin (80 % power)"
        )
    elif metric.margin is not None and to_pass:
        said = N_("about {to_pass} pass a run without a drop (80 % power)")
    elif metric.margin is not None and to_fail:
        said = N_("about {to_fail} fail a drop of twice the margin (80 % power)")
    else:
        return []
    return [gettext(said, to_pass=to_pass, to_fail=to_fail)]


def _counted(count: int, answers: int) -> str:
    if answers == 1:
        return gettext("{count:,} samples", count=count)
    return gettext("{count:,} questions with {answers} samples each", count=count, answers=answers)
