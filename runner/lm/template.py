"""Passes template arguments and reasoning settings to all of lm-eval's model classes alike.

In lm-eval 0.4.13, `vllm` drops `enable_thinking` if it is a template argument, and the classes for
images pass no arguments to the processor's template and do not look for the end of the reasoning.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from runner.config.overrides import in_yaml
from runner.plan import Plan


class Templated:
    """Mixin that comes before lm-eval's model classes and leaves their other arguments unchanged.

    `template_arguments` are all arguments of the chat template besides the conversation.
    """

    tokenizer: Any

    def __init__(
        self,
        *args: Any,
        enable_thinking: bool | None = None,
        chat_template_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        given = dict(chat_template_args or {})
        thinking = given.pop("enable_thinking", enable_thinking)
        # lm-eval rejects `enable_thinking` without an end token, which not all models have.
        super().__init__(*args, chat_template_args=dict(given), **kwargs)  # type: ignore[call-arg]
        self.enable_thinking = thinking
        self.template_arguments = {
            **given,
            **({"enable_thinking": thinking} if thinking is not None else {}),
        }
        self.think_end_token = _spelled(getattr(self, "think_end_token", None), self.tokenizer)
        processor = getattr(self, "processor", None)
        if processor is not None:
            processor.apply_chat_template = partial(
                processor.apply_chat_template, **self.template_arguments
            )


def unread_arguments(lm: Any, plan: Plan) -> list[str]:
    """One problem for each template argument whose name does not occur in the chat template.

    `enable_thinking=false` is not checked: it needs no template that supports thinking.
    """
    sources = _sources(lm)
    if not sources or not any(each.apply_chat_template for each in plan.evaluations):
        return []
    given = {
        f"model.chat_template_args.{name}": (name, value)
        for name, value in (plan.engine_args.get("chat_template_args") or {}).items()
    }
    if plan.engine_args.get("enable_thinking"):
        given["model.enable_thinking"] = ("enable_thinking", True)
    return [
        f"{key}={in_yaml(value)}: the chat template of {plan.engine_args['pretrained']} does not "
        f"use {name}; check the name, or remove it"
        for key, (name, value) in given.items()
        if not any(re.search(rf"\b{re.escape(name)}\b", source) for source in sources)
    ]


def _sources(lm: Any) -> list[str]:
    """All texts that may be the chat template; empty if the tokenizer renders in code."""
    found = [getattr(lm, "hf_chat_template", None)]
    for owner in (getattr(lm, "tokenizer", None), getattr(lm, "processor", None)):
        template = getattr(owner, "chat_template", None)
        found += template.values() if isinstance(template, dict) else [template]
    return [each for each in found if isinstance(each, str)]


def _spelled(token: str | int | None, tokenizer: Any) -> str | None:
    """A token given by its id, as the text that appears in answers."""
    if token is None or (isinstance(token, str) and not token.isdigit()):
        return token
    return str(tokenizer.decode([int(token)]))
