"""Metrics of a whole corpus, such as BLEU: `paired` cannot judge them, so it only shows them."""

from __future__ import annotations

from collections.abc import Sequence

from runner.config.verdict import VerdictConfig
from runner.language import N_
from runner.verdict.result import MetricVerdict
from runner.verdict.settle import Judged, shown

REASON = N_(
    "`paired` can't judge it, because it has no scores of single samples; to judge it against a "
    "baseline, set verdict.metrics.<task>.<metric>.<filter>.rule=isclose"
)


def shown_only(
    found: Sequence[Judged | MetricVerdict], config: VerdictConfig
) -> list[Judged | MetricVerdict]:
    """Return the findings with those of such metrics as UNJUDGED.

    Otherwise they would keep every run of their task from passing. Those that `verdict.metrics`
    lists stay, and all of them if nothing else is judged.
    """
    judged = [each for each in found if isinstance(each, Judged)]
    if all(each.finding.of_corpus for each in judged):
        return list(found)
    return [
        shown(each.case.result, REASON)
        if isinstance(each, Judged) and each.finding.of_corpus and not _listed(each, config)
        else each
        for each in found
    ]


def _listed(judged: Judged, config: VerdictConfig) -> bool:
    result = judged.case.result
    return result.filter in config.metrics.get(result.task, {}).get(result.metric, {})
