"""A pass that lm-eval's random guesses earned is none, whatever the rule."""

from __future__ import annotations

import pytest

from runner.config.verdict import VerdictConfig
from runner.evidence.samples import Sample
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.plan import Evaluation
from runner.status import Status
from runner.verdict import Against, ReferenceUsed, Verdict, judge
from tests.baselines import exact

N = 400
RULES = [
    VerdictConfig(rule="isclose", rtol=0.05),
    VerdictConfig(rule="not_worse", margin=0.05),
    VerdictConfig(rule="paired", margin=0.05, reference="other"),
]
USED = ReferenceUsed("other", "/runs/other", None, "m", "cuda", "TP1", "e", "v", "PASSED")


def questions(right: int, guessed_right: int = 0, guessed_wrong: int = 0) -> list[Sample]:
    """`right` of N are right, the first of these by a guess."""
    return [
        Sample(
            "t",
            place,
            doc_hash=str(place),
            prompt_hash=str(place),
            scores={"acc": float(place < right)},
            guessed=place < guessed_right or N - guessed_wrong <= place,
        )
        for place in range(N)
    ]


def outcome(samples: list[Sample], higher: bool = True) -> Outcome:
    value = sum(each.scores["acc"] for each in samples) / N
    luck = sum(each.scores["acc"] for each in samples if each.guessed) / N
    error = (value * (1 - value) / N) ** 0.5
    metric = MetricResult("t", "acc", "none", value, error, N, higher, True, luck)
    guessed = sum(each.guessed for each in samples)
    return Outcome(
        State.COMPLETED,
        tasks=(TaskOutcome("t", (metric,), N, N, unparsable=guessed, guessed=guessed),),
    )


def verdict(rule: VerdictConfig, samples: list[Sample], reference: list[Sample]) -> Verdict:
    asked = Evaluation("t", None, True, True, None, "auto", exact({"acc": {"none": 0.75}}))
    against = Against(USED, outcome(reference), reference, {"t": None})
    return judge(outcome(samples), (asked,), rule, samples, against)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
def test_a_pass_by_luck_is_inconclusive_and_says_so(rule: VerdictConfig) -> None:
    found = verdict(rule, questions(300, guessed_right=60), questions(300))
    assert found.status is Status.INCONCLUSIVE
    assert "lm-eval guessed 60 of 400 answers at random" in found.reason
    assert "without lucky guesses the value is 0.6000" in found.reason


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
def test_guesses_that_decide_nothing_cost_nothing(rule: VerdictConfig) -> None:
    few = verdict(rule, questions(300, guessed_right=2), questions(300))
    wrong = verdict(rule, questions(300, guessed_wrong=80), questions(300))
    assert few.status is wrong.status is Status.PASSED


def test_a_reference_that_guessed_as_luckily_is_held_to_the_same() -> None:
    lucky = questions(300, guessed_right=60)
    assert verdict(RULES[2], lucky, lucky).status is Status.PASSED


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
def test_a_failure_stays_one(rule: VerdictConfig) -> None:
    found = verdict(rule, questions(200, guessed_right=60), questions(300))
    assert found.status is Status.FAILED


def test_where_less_is_better_a_guess_is_no_luck() -> None:
    samples = questions(300, guessed_right=60)
    asked = Evaluation("t", None, True, True, None, "auto", exact({"acc": {"none": 0.75}}))
    found = judge(outcome(samples, higher=False), (asked,), RULES[0], samples)
    assert found.status is Status.PASSED
