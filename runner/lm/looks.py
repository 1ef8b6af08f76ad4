"""Asks the questions of a task in random order, step by step, so that a run can stop early.

The order is drawn before the first question is asked. In the order of the data set, or of the
answers' arrival, the first questions would not be like the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from runner.lm.answering import Model
from runner.lm.chosen import asked_documents
from runner.lm.passes import Pass, ask, scored
from runner.lm.replaced import replaced
from runner.lm.tasks import LoadedTask
from runner.look import Look, Question, shuffled, sizes
from runner.plan import Plan


def looks(
    lm: Model, manager: TaskManager, loaded: LoadedTask, plan: Plan
) -> Iterator[tuple[Look, Iterator[Pass]]]:
    """Ask the next questions, then yield the passes over all questions asked so far."""
    requests: dict[Question, list[Instance]] = {}
    for name, leaf in loaded.leaves.items():
        for each in leaf.instances:
            requests.setdefault((name, each.doc_id), []).append(each)
    order = shuffled(requests, plan.seed)
    ends = sizes(order, lm.fed().window)
    answers: dict[int, list[Any]] = {}
    begin = 0
    for number, end in enumerate(ends, 1):
        _give(loaded, requests, order[begin:end])
        answers |= ask(lm, manager, loaded, plan)
        _give(loaded, requests, order[:end])
        with _only(loaded):
            yield Look(number, len(ends)), scored(lm, manager, loaded, plan, answers)
        begin = end


def _give(
    loaded: LoadedTask, requests: Mapping[Question, list[Instance]], questions: Iterable[Question]
) -> None:
    """Leave only the requests of these questions to the task, in the data set's order."""
    chosen = set(questions)
    for name, leaf in loaded.leaves.items():
        leaf._instances = [
            each
            for key, own in requests.items()
            if key[0] == name and key in chosen
            for each in own
        ]


def _only(loaded: LoadedTask) -> ExitStack:
    """A context in which a task has only the documents of its requests."""
    stack = ExitStack()
    for leaf in loaded.leaves.values():
        stack.enter_context(replaced(leaf, "doc_iterator", partial(asked_documents, leaf)))
    return stack
