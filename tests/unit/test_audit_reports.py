"""A run's reports say what its gate can tell, in one line, if that is little."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runner.baseline import Baseline
from runner.config.verdict import VerdictConfig
from runner.environment import Environment
from runner.evidence.samples import Sample
from runner.outcome import MetricResult, Outcome, Repeated, State
from runner.plan import Plan
from runner.report import terminal
from runner.report.gates import weak_gates
from runner.report.markdown import render
from runner.report.run_findings import findings
from runner.verdict import judge

SAID = (
    "gsm8k exact_match,strict-match: this gate passes a stack that lost 5 points in 85 % of runs "
    "and fails an unchanged one in 2.6 % (docs/gates.md)."
)
Given = Callable[..., tuple[Plan, Outcome, Any]]


@pytest.fixture
def given(plan: Plan, outcome: Outcome, metric: MetricResult) -> Given:
    """A run of n questions against a baseline."""

    def make(
        baseline: float = 0.9, n: int = 30, config: VerdictConfig | None = None, **changed: Any
    ) -> tuple[Plan, Outcome, Any]:
        config = VerdictConfig(rtol=0.13) if config is None else config
        (evaluation,) = plan.evaluations
        known = {"exact_match": {"strict-match": Baseline(baseline)}}
        asked = replace(plan, evaluations=(replace(evaluation, baselines=known),))
        result = replace(metric, value=0.9, n=n, **changed)
        task = replace(outcome.tasks[0], metrics=(result,), expected=n, evaluated=n)
        found = replace(outcome, tasks=(task,))
        return asked, found, judge(found, asked.evaluations, config)

    return make


def test_a_weak_gate_is_one_line_of_every_report(given: Given, environment: Environment) -> None:
    plan, outcome, verdict = given()
    assert verdict.metrics[0].tolerated[0] == pytest.approx(0.9 / 1.13)
    assert weak_gates(plan, outcome, verdict) == [SAID]
    assert findings(plan, outcome, verdict).count(SAID) == 1
    text = render(plan, environment, outcome, verdict)
    assert text.count("this gate passes") == 1
    out = terminal.Screen(file=io.StringIO(), width=200, soft_wrap=True)
    terminal.show_gates(out, plan, outcome, verdict)
    assert out.file.getvalue() == f"note: {SAID}\n"  # type: ignore[attr-defined]


def test_a_strong_gate_is_no_news(given: Given) -> None:
    assert weak_gates(*given(baseline=0.765, n=1319, config=VerdictConfig())) == []


def test_a_gate_that_fails_an_unchanged_stack_is_weak(given: Given) -> None:
    (line,) = weak_gates(*given(baseline=0.51, n=900, config=VerdictConfig()))
    assert line.endswith("in 5.8 % of runs and fails an unchanged one in 13 % (docs/gates.md).")


def test_not_worse_has_its_own_gate(given: Given, plan: Plan) -> None:
    """A margin of 30 points is too much to notice 5."""
    config = VerdictConfig(rule="not_worse", margin=0.3, cluster="none")
    asked, outcome, _ = given(config=config)
    samples = [
        Sample("gsm8k", number, "strict-match", scores={"exact_match": float(number < 27)})
        for number in range(30)
    ]
    verdict = judge(outcome, asked.evaluations, config, samples)
    assert verdict.metrics[0].margin == 0.3
    (line,) = weak_gates(asked, outcome, verdict)
    assert "in 93 % of runs and fails an unchanged one in 0.8 %" in line


def test_several_answers_to_each_question_make_a_better_gate(given: Given) -> None:
    repeated = Repeated(8, 0.1, 0.1, passed={1: 0.9, 8: 1.0})
    config = VerdictConfig(rtol=0.07)  # 0.8411 to 0.9677
    (once,) = weak_gates(*given(config=config))
    (line,) = weak_gates(*given(config=config, binary=False, repeated=repeated))
    assert "in 52 % of runs and fails an unchanged one in 22 %" in once
    assert "in 68 % of runs and fails an unchanged one in 0.2 %" in line


@pytest.mark.parametrize(
    "changed",
    [
        {"binary": False},
        {"binary": False, "repeated": Repeated(8, 0.1, 0.1)},
        {"higher_is_better": False},
        {"higher_is_better": None},
    ],
    ids=str,
)
def test_other_scores_have_no_such_line(given: Given, changed: dict[str, Any]) -> None:
    assert weak_gates(*given(**changed)) == []


@pytest.mark.parametrize("baseline", [0.0, 1.2, 55.0])
def test_a_baseline_that_is_no_share_has_no_such_line(given: Given, baseline: float) -> None:
    assert all("lost" not in line for line in weak_gates(*given(baseline=baseline)))


def test_a_run_that_can_not_pass_has_no_such_line(given: Given) -> None:
    plan, outcome, verdict = given()
    task = replace(outcome.tasks[0], whole=1319)
    limited = replace(plan, evaluations=(replace(plan.evaluations[0], limit=30),))
    assert weak_gates(limited, replace(outcome, tasks=(task,)), verdict) == []
    assert weak_gates(plan, replace(outcome, state=State.ERROR), verdict) == []
