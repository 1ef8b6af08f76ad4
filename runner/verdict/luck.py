"""Detects a pass that depends on random guesses: some lm-eval parsers draw an option."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from runner.evidence.pairing import Pairing
from runner.evidence.questions import merged
from runner.evidence.samples import Sample
from runner.language import gettext
from runner.stats import means
from runner.status import Status
from runner.verdict.rule import Case, Finding, Rule
from runner.verdict.scores import mean_of_subtasks


def doubt(case: Case, rule: Rule, finding: Finding) -> str:
    """Return why a pass depends on random guesses: it fails if every guess counts as wrong.

    Empty if it still passes, no guess was right, or the metric does not pass anyway.
    """
    luck = case.result.luck
    if luck <= 0 or case.result.higher_is_better is False or not _passes(finding, case):
        return ""
    if _passes(rule(_sober(case)), case):
        return ""
    return gettext(
        "lm-eval guessed {guessed} of {answers} answers at random; without lucky guesses the value "
        "is {value:.4f}",
        guessed=case.task.guessed,
        answers=case.task.scored,
        value=_sober(case).result.value,
    )


def _passes(finding: Finding, case: Case) -> bool:
    if finding.drop is not None:
        return finding.drop.upper < case.settings.margin
    return finding.status is Status.PASSED


def _sober(case: Case) -> Case:
    """The same runs with every guess counted as wrong."""
    pairing = case.pairing
    samples = [_wrong(sample) for sample in case.samples]
    return replace(
        case,
        result=replace(case.result, value=_value(case, samples), luck=0.0),
        samples=samples,
        pairing=None
        if pairing is None
        else Pairing(
            tuple((_wrong(first), _wrong(second)) for first, second in pairing.pairs),
            pairing.unpaired,
        ),
    )


def _value(case: Case, sober: Sequence[Sample]) -> float:
    """The value without guesses; `luck` is a share of all samples, whatever their weights."""
    result, metric = case.result, case.result.metric
    plain = result.value - result.luck
    value = mean_of_subtasks(case.samples, metric)
    if value is None or not math.isclose(value, result.value, rel_tol=1e-6, abs_tol=1e-6):
        return plain
    every = means.mean([each.scores[metric] for each in case.samples])
    if math.isclose(every, result.value, rel_tol=1e-6, abs_tol=1e-6):
        return plain
    return mean_of_subtasks(sober, metric) or 0.0


def _wrong(sample: Sample) -> Sample:
    if sample.rows:
        return merged([_wrong(row) for row in sample.rows])
    return replace(sample, scores=dict.fromkeys(sample.scores, 0.0)) if sample.guessed else sample
