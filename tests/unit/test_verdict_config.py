"""What `verdict` takes from files and command line, and what it refuses with its reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.config.schema import RunConfig
from runner.config.verdict import MetricRuleConfig
from runner.errors import UserError
from runner.verdict.rule import needs_reference, needs_samples, settings

Compose = Callable[..., RunConfig]
REFERENCE = "verdict.reference=baseline@canary_vl/canary"


@pytest.mark.parametrize(
    ("choice", "margin", "reference", "samples"),
    [
        ("isclose", 0.02, False, False),
        ("not_worse", 0.05, False, True),
        ("paired", 0.02, True, True),
        ("numerics", 0.02, True, True),
    ],
)
def test_every_rule_is_a_file(
    compose: Compose, choice: str, margin: float, reference: bool, samples: bool
) -> None:
    verdict = compose(f"verdict={choice}", *([REFERENCE] if reference else [])).verdict
    assert (verdict.rule, verdict.margin) == (choice, margin)
    assert (verdict.rtol, verdict.correction) == (0.05, "holm")
    assert verdict.cluster == ("none" if choice == "not_worse" else "subject")
    assert needs_reference(verdict) is reference
    assert needs_samples(verdict) is samples


def test_a_metric_has_a_rule_of_its_own_from_the_command_line(compose: Compose) -> None:
    verdict = compose(
        "++verdict.metrics.canary.acc.none.rule=paired",
        "++verdict.metrics.canary.acc.none.margin=0.01",
        REFERENCE,
    ).verdict
    own = verdict.metrics["canary"]["acc"]["none"]
    assert own == MetricRuleConfig(rule="paired", margin=0.01)
    found = settings(verdict, "canary", "acc", "none")
    assert (found.rule, found.margin, found.rtol) == ("paired", 0.01, 0.05)
    assert settings(verdict, "canary", "acc", "strict").rule == "isclose"
    assert needs_reference(verdict)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["verdict.rule=close"], "must be one of isclose, not_worse, paired, numerics"),
        (["verdict=paired"], "verdict.rule=paired needs a run to compare with"),
        (["verdict=numerics"], "python -m runner.promote"),
        ([REFERENCE], 
            "verdict.rule=isclose does not compare with a run; use one of paired, numerics"),
        (["verdict.margin=0"], "verdict.margin=0.0: must be a number above 0"),
        (["verdict.margin=nan"], "verdict.margin=nan"),
        (["verdict.rtol=-1"], "verdict.rtol=-1.0: must be a number, 0 or more"),
        (["verdict.rtol=1"], "verdict.rtol=1.0: must be below 1; otherwise half the baseline"),
        (["verdict.margin=2"], "verdict.margin=2.0: must be below 1, the largest drop of a score"),
        (["++verdict.metrics.canary.acc.none.rtol=5"], "canary.acc.none.rtol=5.0: must be below 1"),
        (
            ["++verdict.metrics.canary.acc.none.margin=1"],
            "verdict.metrics.canary.acc.none.margin=1.0: must be below 1, the largest drop of acc",
        ),
        (
            ["++verdict.metrics.canary.bleu_max.none.margin=150"],
            "must be below 100, the largest drop of bleu_max",
        ),
        (["verdict.correction=bonferroni"], "must be one of holm, none"),
        (["verdict=numerics", REFERENCE, "verdict.numerics.p99=-1"], "verdict.numerics.p99=-1.0"),
        (["verdict=numerics", REFERENCE, "verdict.numerics.factor=.9"], "verdict.numerics.factor"),
        (["verdict=replay", REFERENCE, "verdict.numerics.noise=[a]"], "set verdict.rule=numerics"),
        (["verdict=replay", REFERENCE, "verdict.replay.factor=0.5"], "verdict.replay.factor=0.5"),
        (["verdict=replay", REFERENCE, "verdict.replay.way=x"], "must be one of decode, prefill"),
        (["verdict.replay.noise=[a]"], "verdict.rule=isclose does not use it; set"),
        (
            ["verdict=replay", REFERENCE, "++verdict.metrics.canary.acc.none.rtol=0.1"],
            "verdict.metrics: a replay has no scores to judge",
        ),
        (["++verdict.metrics.mmlu.acc.none.rtol=1"], "not a task of this run; its tasks: canary"),
        (["++verdict.metrics.canary.acc.none.rule=numerics"], "isclose, not_worse, paired"),
        (["++verdict.metrics.canary.acc.none.rule=paired"], "needs a run to compare with"),
        (["++verdict.metrics.canary.acc.none.margin=-1"], "none.margin=-1.0"),
        (["++verdict.metrics.canary.acc.none.rtoll=1"], "verdict.metrics.canary.acc.none.rtoll"),
        (["++verdict.metrics.canary.acc.none.rtol=x"], "verdict.metrics.canary.acc.none.rtol"),
        (["++verdict.metrics.canary.acc=1"], 
            "must have the form <task>.<metric>.<filter>.rule=paired"),
        (["++verdict.metrics.canary.rtol=1"], 
            "must have the form <task>.<metric>.<filter>.rule=paired"),
    ],
)  # fmt: skip
def test_what_is_not_legal_is_said_with_its_key(
    compose: Compose, overrides: list[str], said: str
) -> None:
    with pytest.raises(UserError) as refused:
        compose(*overrides)
    assert said in "\n".join(refused.value.problems)


def test_a_metric_with_larger_scores_has_a_larger_margin(compose: Compose) -> None:
    config = compose(
        "++verdict.metrics.canary.bleu_max.none.margin=2",
        "++verdict.metrics.canary.perplexity.none.margin=1.5",
    )
    assert settings(config.verdict, "canary", "bleu_max", "none").margin == 2
    assert settings(config.verdict, "canary", "perplexity", "none").margin == 1.5


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["verdict=paired"], "verdict.replay.draw: verdict.rule=paired does not replay"),
        (["verdict=replay", "task.limit=20"], "which draws from all questions; remove one"),
        (
            ["verdict=replay", "verdict.replay.draw=19"],
            "verdict.replay.draw=19: must be 20 or more",
        ),
        (["verdict=replay", "+verdict.replay.questions.canary_count=[1]"], "set only one"),
    ],
)
def test_a_draw_that_cannot_be_made(
    compose: Callable[..., RunConfig], overrides: list[str], said: str
) -> None:
    with pytest.raises(UserError) as refused:
        compose("verdict.replay.draw=100", "verdict.reference=a", *overrides)
    assert said in "\n".join(refused.value.problems)


@pytest.mark.parametrize("rule", ["isclose", "numerics"])
def test_only_tests_can_stop_early(compose: Callable[..., RunConfig], rule: str) -> None:
    reference = ["verdict.reference=a"] if rule == "numerics" else []
    with pytest.raises(UserError, match=f"verdict.sequential=true: the rule {rule} can't stop"):
        compose(f"verdict={rule}", "verdict.sequential=true", *reference)
    with pytest.raises(UserError, match="chooses the number of questions"):
        compose("verdict=not_worse", "verdict.sequential=true", "task.limit=20")
    assert compose("verdict=not_worse", "verdict.sequential=true").verdict.sequential
