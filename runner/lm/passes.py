"""Scores every sample of a task: lm-eval asks all questions once, and scores once for each sample.

In each pass, lm-eval gets the answers of one sample and treats them as if they were the only ones.
So the task's own filters, parsers and metrics score every answer, and a task that repeats its
requests itself, for example for a majority vote, has its repeats within each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from runner.lm.answering import Model
from runner.lm.building import KINDS, already_built, run_lm_eval
from runner.lm.replaced import replaced
from runner.lm.tasks import LoadedTask
from runner.plan import Plan


@dataclass(frozen=True)
class Pass:
    """lm-eval's results for one sample of every question; `number` counts the samples from 0.

    `of` are the samples of each question.
    """

    number: int
    of: int
    results: Any

    def own(self, answers: list[Any]) -> list[Any]:
        """Of all answers to a request, in order, those of this sample."""
        size = len(answers) // self.of
        return answers[self.number * size : (self.number + 1) * size]

    def numbers(self, request: Instance) -> range:
        """Numbers of the request's repeats that belong to this sample."""
        size = request.repeats or 1
        return range(self.number * size, (self.number + 1) * size)


# The responses to each request, by its id.
Responses = dict[int, list[Any]]


def passes(lm: Model, manager: TaskManager, loaded: LoadedTask, plan: Plan) -> Iterator[Pass]:
    """Ask all questions of the task; yield lm-eval's results for each sample."""
    if loaded.evaluation.samples == 1:
        yield Pass(0, 1, run_lm_eval(lm, manager, loaded, plan))
        return
    yield from scored(lm, manager, loaded, plan, ask(lm, manager, loaded, plan))


def scored(
    lm: Model, manager: TaskManager, loaded: LoadedTask, plan: Plan, answers: Responses
) -> Iterator[Pass]:
    """Let lm-eval score answered requests; yield its results for each sample."""
    samples = loaded.evaluation.samples
    requests = [each for leaf in loaded.leaves.values() for each in leaf.instances]
    for each in requests:
        each.repeats = len(answers[id(each)]) // samples
    for number in range(samples):
        for drawn in loaded.guessed.values():
            drawn.clear()
        for each in requests:
            each.resps, each.filtered_resps = [], {}
        one = Pass(number, samples, None)
        responses = {id(each): iter(one.own(answers[id(each)])) for each in requests}
        with _answering(lm, responses):
            yield Pass(number, samples, run_lm_eval(lm, manager, loaded, plan))


class _Answered(Exception):
    """Raised when all requests of a task are answered and lm-eval is about to score them."""


def ask(lm: Model, manager: TaskManager, loaded: LoadedTask, plan: Plan) -> Responses:
    """Send the task's requests, and return the responses to each."""

    def stop() -> None:
        raise _Answered

    with ExitStack() as stack:
        for leaf in loaded.leaves.values():
            stack.enter_context(replaced(leaf, "apply_filters", stop))
        with suppress(_Answered):
            run_lm_eval(lm, manager, loaded, plan)
    for leaf in loaded.leaves.values():
        leaf.build_all_requests = already_built
    return {
        id(each): list(each.resps) for leaf in loaded.leaves.values() for each in leaf.instances
    }


def _answering(lm: Model, responses: dict[int, Iterator[Any]]) -> ExitStack:
    """A context in which requests have the given responses and don't reach the model."""

    def respond(requests: list[Instance], **options: Any) -> list[Any]:
        return [next(responses[id(each)]) for each in requests]

    respond_to: Callable[..., list[Any]] = respond
    stack = ExitStack()
    for kind in KINDS:
        stack.enter_context(replaced(lm, kind, respond_to))
    return stack
