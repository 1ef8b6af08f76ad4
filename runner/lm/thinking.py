"""Keeps a model's reasoning apart from its answer, and finds answers that lack one of the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.lm.answer import Answer
    from runner.lm.answering import Model


@dataclass(frozen=True)
class Thinking:
    """The reasoning before an answer.

    `cut` says that the token limit came before its end, and `only` that nothing follows it.
    """

    text: str
    cut: bool = False
    only: bool = False


def thinking(lm: Model, answer: Answer) -> Thinking | None:
    """The answer's reasoning; None if it has none.

    It is what the server took out of the answer, or else what precedes the model's token that ends
    the reasoning.
    """
    limited = answer.finish_reason == "length"
    if answer.reasoning:
        empty = not answer.text.strip()
        return Thinking(answer.reasoning, cut=limited and empty, only=not limited and empty)
    end = lm.think_end_token
    if not end or not answer.token_ids:
        return None
    written = str(lm.tokenizer.decode(list(answer.token_ids), skip_special_tokens=False))
    text, marker, after = written.rpartition(end)
    if not marker:
        return Thinking(written, cut=True) if limited else None
    for special in lm.tokenizer.all_special_tokens:  # such as the one that ends a turn
        after = after.replace(special, "")
    return Thinking(text, only=not limited and not after.strip())
