"""A wrong reference run, or answers that measure nothing, never give PASSED."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from runner.config.verdict import NumericsConfig, VerdictConfig
from runner.evidence.samples import Sample
from runner.outcome import Degeneracy, Degenerate, MetricResult, Outcome, State, TaskOutcome
from runner.plan import Evaluation
from runner.status import Status
from runner.verdict import Against, ReferenceUsed, Verdict, judge
from tests.baselines import exact

TASK, N = "t", 600
USED = ReferenceUsed("other", "/runs/other", None, "m", "cuda", "TP1", "e", "v", "FAILED")
ASKED = Evaluation(TASK, None, True, True, None, "auto", exact({"acc": {"none": 0.5}}))
RULES = ("isclose", "not_worse", "paired", "numerics")


def samples() -> list[Sample]:
    """Half of them right, with one token each."""
    return [
        Sample(
            task=TASK, doc_id=n, doc_hash=f"d{n}", prompt_hash=f"p{n}",
            scores={"acc": float(n % 2)}, token_ids=(7,), logprobs=(-0.5,), margins=(1.0,),
        )
        for n in range(N)
    ]  # fmt: skip


def outcome(value: float = 0.5, **counts: object) -> Outcome:
    metric = MetricResult(TASK, "acc", "none", value, 0.02, N, True, math.isfinite(value))
    task = TaskOutcome(TASK, (metric,), expected=N, evaluated=N, answers=N)
    return Outcome(State.COMPLETED, tasks=(replace(task, **counts),))


def judged(
    rule: str,
    ours: Outcome | None = None,
    theirs: Outcome | None = None,
    doubts: Sequence[str] = (),
    **changed: object,
) -> Verdict:
    """A run whose samples equal those of the reference run."""
    limits = NumericsConfig(p99=0.2)
    config = VerdictConfig(rule=rule, margin=0.2, reference="other", numerics=limits)
    config = replace(config, **changed)
    against = Against(USED, theirs or outcome(), samples(), {TASK: None}, doubts)
    return judge(ours or outcome(), (ASKED,), config, samples(), against)


@pytest.mark.parametrize("rule", RULES)
def test_sound_runs_pass(rule: str) -> None:
    assert judged(rule).status is Status.PASSED


@pytest.mark.parametrize("rule", ["paired", "numerics"])
def test_a_doubtful_reference_passes_none_unless_it_is_allowed(rule: str) -> None:
    verdict = judged(rule, doubts=("FAILED itself", "is of another model (a, not b)"))
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.reason.endswith(
        "the reference run FAILED itself, is of another model (a, not b); choose another "
        "reference run, or set verdict.allow_reference=true"
    )
    allowed = judged(rule, doubts=("FAILED itself",), allow_reference=True)
    assert allowed.status is Status.PASSED
    assert allowed.rule.endswith(", verdict.allow_reference=true")


@pytest.mark.parametrize("rule", ["not_worse", "paired", "numerics"])
def test_a_task_of_two_groups_counts_in_each(rule: str) -> None:
    """As with task.names=[canary, canary_colour]: the subtask is asked twice."""
    limits = NumericsConfig(p99=0.2)
    config = VerdictConfig(rule=rule, margin=0.2, reference="other", numerics=limits)
    names = ("t", "group")
    own = [replace(each, evaluation=name) for name in names for each in samples()]
    (task,) = outcome().tasks
    of_group = replace(task.metrics[0], task="group")
    tasks = (task, replace(task, task="group", metrics=(of_group, *task.metrics)))
    both = Outcome(State.COMPLETED, tasks=tasks)
    asked = tuple(replace(ASKED, task=name) for name in names)
    verdict = judge(both, asked, config, own, Against(USED, both, own))
    assert verdict.status is Status.PASSED, verdict.reason
    assert sum(each.judged for each in verdict.metrics) == 2


@pytest.mark.parametrize("rule", ["isclose", "not_worse"])
def test_a_rule_without_a_reference_has_no_doubt_of_one(rule: str) -> None:
    assert judged(rule, doubts=("FAILED itself",)).status is Status.PASSED


def test_a_failure_against_a_doubtful_reference_stays_one() -> None:
    config = VerdictConfig(rule="paired", reference="other")
    worse = [replace(each, scores={"acc": 0.0}) for each in samples()]
    against = Against(USED, outcome(), samples(), {TASK: None}, ("FAILED itself",))
    verdict = judge(outcome(0.0), (ASKED,), config, worse, against)
    assert verdict.status is Status.FAILED
    assert "the reference run FAILED itself" in verdict.reason


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_accuracy_that_is_no_number_passes_no_rule(rule: str, value: float) -> None:
    verdict = judged(rule, outcome(value))
    expected = Status.INCONCLUSIVE if rule == "numerics" else Status.FAILED
    assert verdict.status is expected
    assert str(value) in verdict.reason


@pytest.mark.parametrize("rule", ["paired", "numerics"])
def test_nor_does_one_of_the_reference_run(rule: str) -> None:
    verdict = judged(rule, theirs=outcome(math.nan))
    assert verdict.status is Status.INCONCLUSIVE
    assert "nan" in verdict.reason


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("guessed", [0, N])
def test_answers_of_which_none_could_be_parsed_pass_no_rule(rule: str, guessed: int) -> None:
    none = outcome(unparsable=N, guessed=guessed)
    for verdict in (judged(rule, none), judged(rule, none, none)):
        assert verdict.status is Status.INCONCLUSIVE
        assert "none of 600 answers could be parsed" in verdict.reason
    assert judged(rule, outcome(unparsable=N - 1)).status is Status.PASSED


@pytest.mark.parametrize("rule", ["paired", "numerics"])
def test_nor_do_those_of_the_reference_run(rule: str) -> None:
    verdict = judged(rule, theirs=outcome(unparsable=N))
    assert verdict.status is Status.INCONCLUSIVE
    assert "in the reference run, none of 600 answers could be parsed" in verdict.reason


@pytest.mark.parametrize("rule", ["paired", "numerics"])
def test_two_runs_of_degenerate_answers_alone_prove_nothing(rule: str) -> None:
    def loops(answers: int) -> Outcome:
        return outcome(degenerate=(Degenerate(Degeneracy.REPEATING, answers, TASK, 0),))

    assert judged(rule, loops(N), loops(N)).status is Status.INCONCLUSIVE
    assert judged(rule, loops(N - 1), loops(N - 1)).status is Status.PASSED
    assert judged(rule, loops(N), loops(N), allow_degenerate=True).status is Status.PASSED
