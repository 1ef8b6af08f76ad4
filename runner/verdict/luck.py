"""A pass that rests on answers that lm-eval guessed: some parsers draw an option at random."""

from __future__ import annotations

from dataclasses import replace

from runner.evidence.pairing import Pairing
from runner.evidence.samples import Sample
from runner.status import Status
from runner.verdict.rule import Case, Finding, Rule


def doubt(case: Case, rule: Rule, finding: Finding) -> str:
    """Why the pass is none: with every guess counted as wrong, the rule would not pass it.

    Empty where it would, and where nothing was guessed right or nothing passes.
    """
    luck = case.result.luck
    if luck <= 0 or case.result.higher_is_better is False or not _passes(finding, case):
        return ""
    if _passes(rule(_sober(case)), case):
        return ""
    return (
        f"lm-eval guessed {case.task.guessed} of {case.task.evaluated} answers at random, and "
        f"without its luck the value is {case.result.value - luck:.4f}"
    )


def _passes(finding: Finding, case: Case) -> bool:
    if finding.drop is not None:
        return finding.drop.upper < case.settings.margin
    return finding.status is Status.PASSED


def _sober(case: Case) -> Case:
    """The same run, and the same reference run, with every guess wrong."""
    pairing = case.pairing
    return replace(
        case,
        result=replace(case.result, value=case.result.value - case.result.luck, luck=0.0),
        samples=[_wrong(sample) for sample in case.samples],
        pairing=None
        if pairing is None
        else Pairing(
            tuple((_wrong(first), _wrong(second)) for first, second in pairing.pairs),
            pairing.unpaired,
        ),
    )


def _wrong(sample: Sample) -> Sample:
    return replace(sample, scores=dict.fromkeys(sample.scores, 0.0)) if sample.guessed else sample
