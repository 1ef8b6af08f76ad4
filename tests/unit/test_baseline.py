"""A baseline's own uncertainty, and generation settings by task."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runner.baseline import Baseline, parsed
from runner.config.schema import AskConfig, RunConfig
from runner.errors import UserError
from runner.plan import Plan
from runner.planning import Facts, make_plan
from runner.rundir import RunDirectory, read_json, write_json

Compose = Callable[..., RunConfig]

KEY = "model.baselines.aime25.exact_match.none"


def test_a_baseline_is_a_number_or_says_how_it_was_measured() -> None:
    assert parsed(0.9, KEY) == (Baseline(0.9), [])
    assert parsed({"value": 0.9, "n": 30}, KEY) == (Baseline(0.9, n=30), [])
    content = {"value": 1, "n": 30, "samples": 4, "stderr": None, "tolerance": 0.1}
    assert parsed(content, KEY) == (Baseline(1.0, 30, 4, None, 0.1), [])


def test_the_error_of_a_baseline() -> None:
    assert Baseline(0.9).error == 0.0
    assert Baseline(0.9, n=30).error == pytest.approx(0.0548, abs=1e-4)
    assert Baseline(0.9, n=30, samples=4).error == pytest.approx(math.sqrt(0.09 / 120))
    assert Baseline(0.9, n=30, stderr=0.02).error == 0.02
    assert Baseline(12.5, n=30).error == 0.0  # such as a perplexity: unknown


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("high", f"{KEY}=high: must be a finite number"),
        (True, f"{KEY}=True: must be a finite number"),
        (math.nan, f"{KEY}=nan: must be a finite number"),
        ({"n": 30}, f"{KEY}: a value is required"),
        ({"value": None}, f"{KEY}: a value is required"),
        ({"value": 0.9, "size": 30}, f"{KEY}.size: unknown; use value, n, samples"),
        ({"value": 0.9, "n": 0}, f"{KEY}.n=0: must be a whole number of at least 1"),
        ({"value": 0.9, "n": 1.5}, f"{KEY}.n=1.5: must be a whole number"),
        ({"value": 0.9, "samples": 8}, f"{KEY}.samples: needs {KEY}.n"),
        ({"value": 0.9, "stderr": -1}, f"{KEY}.stderr=-1: must be a number above 0"),
        ({"value": 0.9, "tolerance": 0}, f"{KEY}.tolerance=0: must be a number above 0"),
        (
            {"value": 0.3, "tolerance": 0.3},
            f"{KEY}.tolerance=0.3: must be below the value of 0.3; otherwise a score of 0 passes",
        ),
    ],
)
def test_a_baseline_that_cannot_be_meant_is_named(content: Any, said: str) -> None:
    baseline, problems = parsed(content, KEY)
    assert baseline is None
    assert problems[0].startswith(said)


def test_the_command_line_adds_to_a_baseline(compose: Compose) -> None:
    config = compose("model=canary_vl", "+model.baselines={t: {acc: {none: {value: 0.5, n: 40}}}}")
    assert config.model.baselines["t"]["acc"]["none"] == Baseline(0.5, n=40)


def test_plans_of_before_have_numbers(plan: Plan, tmp_path: Any) -> None:
    files = RunDirectory(tmp_path)
    write_json(files.plan, plan)
    assert read_json(files.plan, Plan) == plan
    text = files.plan.read_text(encoding="utf-8")
    assert '"strict-match": {' in text
    before = text[: text.index('"strict-match": {')]
    after = text[text.index("}", len(before)) + 1 :]
    files.plan.write_text(f'{before}"strict-match": 0.765{after}', encoding="utf-8")
    assert read_json(files.plan, Plan) == plan


@pytest.mark.parametrize(
    ("model", "task", "settings"),
    [
        ({}, {}, {}),
        ({"temperature": 0.6, "top_p": 0.95}, {}, {"temperature": 0.6, "top_p": 0.95}),
        ({"temperature": 0.6, "top_p": 0.95}, {"top_p": 1}, {"temperature": 0.6, "top_p": 1}),
        ({"max_gen_toks": 9}, {"max_tokens": 5}, {"max_tokens": 5}),
    ],
)
def test_the_users_generation_settings_override_the_models(
    config: RunConfig,
    facts: Facts,
    model: dict[str, Any],
    task: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    config.model.ask = {"gsm8k": AskConfig(gen_kwargs=model, samples=4)}
    config.task.gen_kwargs = task
    (evaluation,) = make_plan(config, facts).evaluations
    assert (evaluation.gen_kwargs, evaluation.samples) == (settings, 4)


def test_the_longest_answer_has_a_key_of_its_own(config: RunConfig, facts: Facts) -> None:
    config.model.ask = {"gsm8k": AskConfig(max_gen_toks=32768, samples=4)}
    assert make_plan(config, facts).evaluations[0].gen_kwargs == {"max_gen_toks": 32768}
    config.task.max_gen_toks, config.task.samples = 512, 2
    (evaluation,) = make_plan(config, facts).evaluations
    assert (evaluation.gen_kwargs, evaluation.samples) == ({"max_gen_toks": 512}, 2)


def test_other_samples_are_another_evaluation(config: RunConfig, facts: Facts) -> None:
    once = make_plan(config, facts)
    config.task.samples = 8
    often = make_plan(config, facts)
    assert often.evaluation_fingerprint != once.evaluation_fingerprint
    assert often.engine_fingerprint == once.engine_fingerprint
    assert replace(often.evaluations[0], samples=1) == once.evaluations[0]


def test_numerics_is_rejected_for_sampled_answers(compose: Compose) -> None:
    asked = ("verdict=numerics", "verdict.reference=other")
    with pytest.raises(UserError) as refused:
        compose(*asked, "+task.gen_kwargs.temperature=0.6")
    (problem,) = refused.value.problems
    assert problem.startswith("verdict.rule=numerics: canary samples its answers (temperature=0.6)")
    compose(*asked, "+task.gen_kwargs.temperature=0.6", "+task.gen_kwargs.do_sample=false")
    compose(*asked, "+task.gen_kwargs.temperature=0.0")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task.samples=0"], "task.samples=0: must be at least 1, or null"),
        (["task.max_gen_toks=0"], "task.max_gen_toks=0: must be at least 1, or null"),
        (
            ["task.max_gen_toks=64", "+task.gen_kwargs.max_tokens=32"],
            "task.gen_kwargs.max_tokens: remove it; task.max_gen_toks is set",
        ),
    ],
)
def test_settings_that_cannot_be_meant(compose: Compose, overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        compose(*overrides)
    assert said in refused.value.problems
