"""Template arguments reach the template of lm-eval's classes for text and for images alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from runner.canary import WEIGHTS
from runner.config.loading import load
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.plan import Evaluation, Plan
from runner.planning import Facts, make_plan
from runner.platforms.cpu import cure_this_process

cure_this_process()  # before transformers looks for torchvision

from runner.lm.template import unread_arguments  # noqa: E402
from runner.runtimes.hf.models import MODEL_CLASSES  # noqa: E402

THINKING = (WEIGHTS / "chat_template.jinja").read_text() + (
    "[{{ enable_thinking }}|{{ reasoning_effort }}]"
)
ASKED: list[tuple[dict[str, Any], str]] = [
    ({"enable_thinking": True, "chat_template_args": {"reasoning_effort": "high"}}, "[True|high]"),
    ({"enable_thinking": False}, "[False|]"),
    ({"chat_template_args": {"enable_thinking": True}}, "[True|]"),
    ({}, "[|]"),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The canary's, with a template that says what it was given."""
    directory = tmp_path_factory.mktemp("weights")
    for file in WEIGHTS.iterdir():
        (directory / file.name).symlink_to(file)
    (directory / "chat_template.jinja").unlink()
    (directory / "chat_template.jinja").write_text(THINKING)
    return directory


@pytest.mark.parametrize("backend", MODEL_CLASSES)
def test_template_arguments_reach_the_template(weights: Path, backend: str) -> None:
    for arguments, said in ASKED:
        lm = MODEL_CLASSES[backend](
            pretrained=str(weights), device="cpu", progress=None, **arguments
        )
        prompt = lm.apply_chat_template([{"role": "user", "content": "Hello"}])
        assert "Hello" in prompt and prompt.endswith(said)


def test_a_token_given_by_its_number_is_spelled_out(weights: Path) -> None:
    number = 12
    lm = MODEL_CLASSES["hf"](
        pretrained=str(weights), device="cpu", progress=None, think_end_token=str(number)
    )
    assert lm.think_end_token == lm.tokenizer.decode([number])


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        ({"enable_thinking": True}, []),
        ({"enable_thinking": True, "chat_template_args": {"reasoning_effort": "high"}}, []),
        (
            {"chat_template_args": {"reasoning_efort": "high"}},
            [
                "model.chat_template_args.reasoning_efort=high: the chat template of M does not "
                "use reasoning_efort; check the name, or remove it"
            ],
        ),
    ],
)
def test_an_argument_that_no_template_reads_is_refused(
    plan: Plan, arguments: dict[str, Any], problems: list[str]
) -> None:
    asked = replace(plan, engine_args={"pretrained": "M", **arguments})
    lm = SimpleNamespace(tokenizer=SimpleNamespace(chat_template=THINKING))
    assert unread_arguments(lm, asked) == problems
    plain = replace(asked, evaluations=(Evaluation("x", None, False, False, None, "auto", {}),))
    assert unread_arguments(lm, plain) == []


def test_only_thinking_that_is_on_needs_a_template_that_knows_it(plan: Plan) -> None:
    lm = SimpleNamespace(tokenizer=SimpleNamespace(chat_template={"default": "{{ messages }}"}))
    off = replace(plan, engine_args={"pretrained": "M", "enable_thinking": False})
    on = replace(plan, engine_args={"pretrained": "M", "enable_thinking": True})
    assert unread_arguments(lm, off) == []
    (problem,) = unread_arguments(lm, on)
    assert problem.startswith("model.enable_thinking=true: the chat template of M does not use")
    by_itself = SimpleNamespace(tokenizer=SimpleNamespace(chat_template=None))
    assert unread_arguments(by_itself, on) == []


def test_thinking_as_a_template_argument_is_thinking(config: RunConfig, facts: Facts) -> None:
    config.model.chat_template_args = {"enable_thinking": False, "reasoning_effort": "high"}
    plan = make_plan(config, facts)
    assert plan.engine_args["enable_thinking"] is False
    assert plan.engine_args["chat_template_args"] == {"reasoning_effort": "high"}
    assert config.model.chat_template_args["enable_thinking"] is False


def test_thinking_said_twice_must_agree(compose: Callable[..., RunConfig]) -> None:
    both = compose("model.enable_thinking=false")
    composed: Any = OmegaConf.structured(both)
    OmegaConf.update(composed, "model.chat_template_args", {"enable_thinking": True})
    with pytest.raises(UserError, match=r"^model.enable_thinking=false: .*enable_thinking=true"):
        load(composed)
