"""numerics by noise: what correct stacks pass, what fails, and everything that it may not pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from runner.config.verdict import NumericsConfig, VerdictConfig
from runner.evidence.samples import Sample
from runner.status import Status
from runner.verdict import Verdict, judge
from runner.verdict.explanation import beneath
from runner.verdict.result import MetricVerdict
from runner.verdict.rule import Noise
from tests.unit.test_verdict_rules import against as reference_run
from tests.unit.test_verdict_rules import asked, questions, run

N, TOKENS = 60, 40
RULE = VerdictConfig(rule="numerics", reference="other")


def answers(error: float, seed: int = 0, n: int = N) -> list[Sample]:
    """Answers of a stack whose log-probabilities differ by `error` nats (RMS)."""
    moved = np.random.default_rng(seed).normal(size=(N, TOKENS)) * error
    return [
        replace(
            each,
            token_ids=tuple(range(TOKENS)),
            logprobs=tuple(-1 + moved[each.doc_id]),
            margins=(2.0,) * TOKENS,
        )
        for each in questions([1.0] * n)
    ]


def parted(own: Sequence[Sample], count: int, place: int = 5, ended: bool = False) -> list[Sample]:
    """The same with another token in the first `count` answers, or with their end there."""

    def other(each: Sample) -> Sample:
        tokens = [*each.token_ids[:place], *([] if ended else [999])]
        end = len(tokens)
        logprobs, margins = each.logprobs[:end], each.margins[:end]
        return replace(each, token_ids=tokens, logprobs=logprobs, margins=margins)

    return [other(each) if each.doc_id < count else each for each in own]


REFERENCE = answers(0.0)
# The canary in bfloat16: 99th percentiles of 0.02.
NOISE = (Noise("again", answers(0.007, 1)), Noise("tp2", answers(0.008, 2)))
# A large model in bfloat16.
LOUD = (Noise("again", answers(0.09, 1)), Noise("tp2", answers(0.09, 2)))


def verdict(
    own: Sequence[Sample],
    noise: Sequence[Noise] = NOISE,
    reference: Sequence[Sample] = REFERENCE,
    rule: VerdictConfig = RULE,
    **settings: Any,
) -> Verdict:
    rule = replace(rule, numerics=replace(rule.numerics, **settings))
    against = replace(reference_run(reference), noise=noise)
    return judge(run(own), (asked(),), rule, own, against)


def judged(own: Sequence[Sample], noise: Sequence[Noise] = NOISE, **changed: Any) -> MetricVerdict:
    (metric,) = [each for each in verdict(own, noise, **changed).metrics if each.judged]
    return metric


def test_a_correct_pair_of_a_large_model_passes_by_its_noise() -> None:
    found = judged(answers(0.09, 3), LOUD)
    assert found.status is Status.PASSED, found.reason
    assert found.value is not None and found.value > 0.2
    assert "× the noise, " in found.reason and "limit 3 ×" in found.reason
    assert "; RMS 0.09 nats; noise (again): RMS 0.09 nats; noise (tp2): " in found.evidence
    assert (found.rule, found.tolerated, found.n) == ("numerics", None, N * TOKENS)


def test_a_dropped_bias_fails_by_the_noise_though_its_shifts_are_small() -> None:
    own = answers(0.03, 3)
    found = judged(own)
    assert found.status is Status.FAILED
    assert found.value is not None and found.value < 0.1
    assert "; limit 3 × (p = " in found.reason
    assert found.p is not None and found.p < 0.01 and "one-sided p" in beneath(found)
    assert judged(own, factor=30.0).status is Status.PASSED


def test_near_the_limit_more_questions_decide() -> None:
    own = answers(0.008 * math.sqrt(2.9), 3, n=20)
    found = judged(own, reference=REFERENCE[:20])
    assert found.status is Status.INCONCLUSIVE
    assert "questions would be enough" in found.reason


def test_without_noise_nothing_passes_and_only_gross_shifts_fail() -> None:
    same = verdict(REFERENCE, ())
    assert same.status is Status.INCONCLUSIVE and same.exit_status == 4
    assert "but it is not known how much correct stacks differ: run the same" in same.reason
    assert "python -m runner.promote RUN --noise RUN2 RUN3" in same.reason
    assert same.rule.startswith(
        "numerics: log-probability shift from the reference run; without noise runs, nothing passes"
    )
    assert judged(answers(0.2, 3), ()).status is Status.INCONCLUSIVE
    gross = judged(answers(0.5, 3), ())
    assert gross.status is Status.FAILED
    assert "RMS difference of 0.5 nats, more than 0.3" in gross.reason


def test_noise_that_rounding_does_not_explain_lets_nothing_pass() -> None:
    found = judged(answers(0.5, 3), [Noise("wrong", answers(0.5, 1))])
    assert found.status is Status.INCONCLUSIVE
    assert "wrong differs from the reference run by an RMS of 0.5 nats" in found.reason


def test_limits_that_are_set_hold_beside_the_noise() -> None:
    own = answers(0.008, 3)
    both = judged(own, p99=0.2)
    assert (both.status, both.tolerated) == (Status.PASSED, (None, 0.2))
    assert both.reason.endswith("; log-probability shift within the limits")
    broken = judged(own, p99=0.001)
    assert (broken.status, broken.p) == (Status.FAILED, None)
    assert "p99 0.02 exceeds 0.001" in broken.reason
    assert judged(answers(0.03, 3), p99=0.2).status is Status.FAILED
    assert "limit 3 × the noise of correct stacks (2 noise runs); within p99 0.2" in (
        verdict(own, p99=0.2).rule
    )


def test_limits_of_shifts_are_enough_without_noise() -> None:
    assert judged(answers(0.03, 3), (), median=0.1).status is Status.PASSED
    said = verdict(answers(0.03, 3), (), median=0.1, differing=0.05).rule
    assert said.startswith(
        "numerics: log-probability shift from the reference run; within median 0.1, 5.0 % of"
    )


def test_a_limit_of_differing_answers_alone_passes_nothing_without_noise() -> None:
    assert judged(REFERENCE, (), differing=0.05).status is Status.INCONCLUSIVE
    assert judged(parted(REFERENCE, 30, 39), (), differing=0.05).status is Status.FAILED


def test_answers_that_part_far_from_a_tie_are_beyond_the_noise() -> None:
    found = judged(parted(answers(0.008, 3), 12))
    assert found.status is Status.FAILED
    assert "12 of 60 answers differ, 0 of them at a near-tie" in found.evidence


def test_answers_that_end_where_the_others_go_on_let_nothing_pass() -> None:
    own = answers(0.008, 3)
    found = judged(parted(own, 2, ended=True))
    assert found.status is Status.INCONCLUSIVE
    said = "2 answers differ, but it is not known how far: one"
    assert said in found.reason
    assert judged(parted(own, 1, ended=True)).status is Status.PASSED
    by_limits = judged(parted(own, 2, ended=True), (), p99=1.0)
    assert by_limits.status is Status.INCONCLUSIVE and said in by_limits.reason
    assert judged(own, (), p99=1.0).status is Status.PASSED


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_log_probability_that_is_not_finite_fails(broken: float) -> None:
    own = answers(0.008, 3)
    own[0] = replace(own[0], logprobs=(broken, *own[0].logprobs[1:]))
    assert judged(own).status is Status.FAILED
    found = judged(answers(0.008, 3), [Noise("broken", own)])
    assert found.status is Status.INCONCLUSIVE
    assert "(broken has log-probabilities that are infinite or not a number)" in found.reason


def test_too_few_questions_decide_nothing() -> None:
    found = judged(answers(0.5, 3, n=19), reference=REFERENCE[:19])
    assert found.status is Status.INCONCLUSIVE
    assert found.reason == "too few questions: 19, at least 20 needed"


def test_noise_of_other_questions_is_not_used() -> None:
    half = Noise("half", answers(0.008, 4, n=30))
    found = judged(answers(0.008, 3), [half])
    assert found.status is Status.INCONCLUSIVE
    why = "half can't be compared with the reference run in all of these questions"
    assert why in found.reason
    found = judged(answers(0.008, 3), [*NOISE, half], p99=0.2)
    assert found.status is Status.PASSED and f"noise run {why}" in found.evidence
    # Limits don't replace noise that is listed, but can't be used.
    assert judged(answers(0.008, 3), [half], p99=0.2).status is Status.INCONCLUSIVE


def test_noise_that_is_the_reference_itself_is_none() -> None:
    found = judged(answers(0.008, 3), [Noise("same", REFERENCE)])
    assert found.status is Status.INCONCLUSIVE
    assert "have the same log-probabilities, so they show no noise" in found.reason


def test_noise_of_a_stack_that_failed_keeps_a_run_from_passing() -> None:
    failed = [NOISE[0], replace(NOISE[1], doubts=("FAILED itself",))]
    found = judged(answers(0.008, 3), failed)
    assert found.status is Status.INCONCLUSIVE
    assert "the noise run tp2 FAILED itself, list others, or set" in found.reason
    allowed = replace(RULE, allow_reference=True)
    assert judged(answers(0.008, 3), failed, rule=allowed).status is Status.PASSED


def test_sums_without_token_counts_pass_by_noise_of_sums_only() -> None:
    def choosing(error: float, seed: int, *tokens: int) -> list[Sample]:
        moved = np.random.default_rng(seed).normal(size=(N, 8)) * error
        return [
            replace(each, choice_logprobs=tuple(-50 + moved[each.doc_id]), choice_tokens=tokens)
            for each in questions([1.0] * N)
        ]

    sums = [Noise("sums", choosing(0.5, 1))]
    reference = choosing(0.0, 0)
    assert judged(choosing(0.5, 3), sums, reference=reference).status is Status.PASSED
    assert judged(choosing(2.5, 3), sums, reference=reference).status is Status.FAILED
    assert judged(choosing(2.5, 3), (), reference=reference).status is Status.INCONCLUSIVE
    found = judged(choosing(0.5, 3, *[10] * 8), sums, reference=reference)
    assert found.status is Status.INCONCLUSIVE and "has no number of tokens" in found.reason


def test_no_limit_is_set_by_default() -> None:
    limits = NumericsConfig()
    assert (limits.median, limits.p99, limits.worst, limits.differing) == (None,) * 4
