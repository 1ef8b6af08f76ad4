"""Finds the degenerate answers to a request of lm-eval's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.evidence.degenerate import has_replacement, is_empty, is_not_a_number, is_repeating
from runner.lm.answer import TOO_LONG, Answer
from runner.outcome import Degeneracy

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from runner.lm.answering import Model


def degenerate(lm: Model, request: Instance, answers: list[Answer]) -> list[Degeneracy]:
    """What is wrong with each degenerate answer to the request, or with its rolling score."""
    if request.request_type == "loglikelihood_rolling":  # several answers, none of them kept
        scores = [float(each) for each in request.resps if isinstance(each, int | float)]
        return [Degeneracy.NOT_A_NUMBER] if is_not_a_number(scores) else []
    judged = [_judged(lm, request, answer) for answer in answers]
    return [each for each in judged if each is not None]


def _judged(lm: Model, request: Instance, answer: Answer) -> Degeneracy | None:
    if answer.finish_reason == TOO_LONG:
        return None
    if is_not_a_number(answer.logprobs) or is_not_a_number([answer.scored or 0.0]):
        return Degeneracy.NOT_A_NUMBER
    if request.request_type != "generate_until":
        return None
    if is_repeating(answer.token_ids, answer.written):
        return Degeneracy.REPEATING
    if has_replacement(answer.written, request.args[0], answer.finish_reason == "length"):
        return Degeneracy.REPLACEMENT
    if not answer.written.strip() and is_empty(
        answer.written, _written(lm, answer), _stops(request.args[1])
    ):
        return Degeneracy.EMPTY
    return None


def _written(lm: Model, answer: Answer) -> str:
    """The text of the answer's tokens, with reasoning and stop texts, without special tokens."""
    return str(lm.tokenizer.decode(list(answer.token_ids), skip_special_tokens=True))


def _stops(settings: dict[str, Any]) -> list[str]:
    until = settings.get("until") or []
    return [until] if isinstance(until, str) else until
