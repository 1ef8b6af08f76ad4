"""The reasoning before an answer: kept apart, and what is missing is counted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runner.config.verdict import VerdictConfig
from runner.lm.answer import Answer
from runner.lm.thinking import Thinking, thinking
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.plan import Evaluation
from runner.report.run_findings import matters
from runner.status import Status
from runner.verdict import judge
from tests.baselines import exact

WORDS = {1: "Let me see.", 2: "</think>", 3: "\n\n", 4: "B", 5: "<end>"}
END = 5


def thought(
    *tokens: int,
    finish: str = "stop",
    end: str | None = "</think>",
    text: str = "",
    reasoning: str = "",
) -> Thinking | None:
    lm: Any = SimpleNamespace(
        think_end_token=end,
        tokenizer=SimpleNamespace(
            decode=lambda ids, skip_special_tokens: "".join(WORDS[each] for each in ids),
            all_special_tokens=["<end>"],
        ),
    )
    return thinking(lm, Answer(9, tokens, (), (), finish, text=text, reasoning=reasoning))


@pytest.mark.parametrize(
    ("tokens", "finish", "found"),
    [
        ((1, 2, 3, 4, END), "stop", Thinking("Let me see.")),
        ((1, 1), "length", Thinking("Let me see.Let me see.", cut=True)),
        ((1, 2, 3, 4), "length", Thinking("Let me see.")),  # cut in the answer
        ((1, 2, 3, END), "stop", Thinking("Let me see.", only=True)),
        ((1, 2, 3), "length", Thinking("Let me see.")),  # cut before the answer: not by itself
        ((4, END), "stop", None),  # answered at once
        ((), "prompt_too_long", None),
    ],
)
def test_the_reasoning_of_an_answer(
    tokens: tuple[int, ...], finish: str, found: Thinking | None
) -> None:
    assert thought(*tokens, finish=finish) == found


def test_a_model_that_does_not_think() -> None:
    assert thought(1, 2, 4, end=None) is None


@pytest.mark.parametrize("end", [None, "</think>"])
@pytest.mark.parametrize(
    ("content", "finish", "found"),
    [
        ("B", "stop", Thinking("Hm.")),
        ("B", "length", Thinking("Hm.")),  # cut in the answer
        ("", "length", Thinking("Hm.", cut=True)),
        ("\n\n", "stop", Thinking("Hm.", only=True)),
    ],
)
def test_reasoning_that_a_server_took_out(
    content: str, finish: str, found: Thinking, end: str | None
) -> None:
    """It is preferred to what the tokens spell."""
    assert thought(1, 2, 4, finish=finish, end=end, text=content, reasoning="Hm.") == found


# Answers that the token limit stopped

ASKED = Evaluation("t", None, True, True, None, "auto", exact({"acc": {"none": 0.9}}))


def cut(answers: int, thinking: int = 0, samples: int = 1) -> Outcome:
    metric = MetricResult("t", "acc", "none", 0.9, 0.01, 200, True, samples == 1)
    task = TaskOutcome(
        "t",
        (metric,),
        expected=200,
        evaluated=200,
        samples=samples,
        answers=200 * samples,
        cut_answers=answers,
        cut_thinking=thinking,
    )
    return Outcome(State.COMPLETED, tasks=(task,))


@pytest.mark.parametrize(("answers", "status"), [(10, "PASSED"), (11, "INCONCLUSIVE")])
def test_more_than_5_percent_of_cut_answers_keep_a_run_from_passing(
    answers: int, status: str
) -> None:
    verdict = judge(cut(answers), (ASKED,), VerdictConfig())
    assert verdict.status is Status(status)


def test_the_reason_says_where_they_were_cut_and_what_to_do() -> None:
    verdict = judge(cut(60, thinking=48, samples=4), (ASKED,), VerdictConfig())
    assert (
        "60 of 800 answers (7.5 %) were stopped at the token limit, 48 of them while thinking; "
        "raise task.max_gen_toks, or set verdict.allow_cut=true"
    ) in verdict.reason
    allowed = judge(cut(60, samples=4), (ASKED,), VerdictConfig(allow_cut=True))
    assert allowed.status is Status.PASSED
    assert "verdict.allow_cut=true" in allowed.rule


def test_a_failure_stays_one() -> None:
    worse = replace(ASKED, baselines=exact({"acc": {"none": 0.99}}))
    verdict = judge(cut(60), (worse,), VerdictConfig())
    assert verdict.status is Status.FAILED
    assert "60 of 200 answers (30.0 %)" in verdict.reason


def test_a_single_answer_is_no_share() -> None:
    outcome = cut(1)
    few = replace(outcome.tasks[0], expected=5, evaluated=5, answers=5)
    few = replace(few, metrics=(replace(few.metrics[0], n=5),))
    verdict = judge(replace(outcome, tasks=(few,)), (ASKED,), VerdictConfig())
    assert verdict.status is Status.PASSED


def test_the_report_counts_them() -> None:
    outcome = cut(60, thinking=48, samples=4)
    task = replace(outcome.tasks[0], thought_only=3)
    assert matters(replace(outcome, tasks=(task,))) == [
        "t: 60 (7.5 %) answers were stopped at the token limit, 48 of them while thinking.",
        "t: 3 (0.4 %) answers are empty after their reasoning.",
    ]
