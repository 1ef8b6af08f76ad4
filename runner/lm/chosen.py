"""Restricts loaded tasks to some of their questions, after their requests were built."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from lm_eval.api.task import Task

from runner.lm.tasks import LoadedTask

KEY, DRAW = "verdict.replay.questions", "verdict.replay.draw"


def keep(
    loaded: Sequence[LoadedTask], questions: Mapping[str, Collection[int]], key: str = KEY
) -> list[str]:
    """Leave only the requests of these documents to the tasks.

    `questions` has the documents of each task (of a group: of each subtask), and `key` is the
    setting that chose them. Returns a problem for
    each name that is no task of the run, for each document that a task does not ask, and for each
    task that would ask none: lm-eval can't score it.
    """
    leaves = {name: leaf for each in loaded for name, leaf in each.leaves.items()}
    problems = [
        f"{key}.{name}: not a task of this run; its tasks: {', '.join(leaves)}"
        for name in questions
        if name not in leaves
    ]
    for name, leaf in leaves.items():
        wanted = set(questions.get(name, ()))
        if missing := wanted - {each.doc_id for each in leaf.instances}:
            listed = ", ".join(map(str, sorted(missing)))
            problems.append(f"{key}.{name}: does not ask documents {listed}")
        if not wanted:
            problems.append(f"{key}.{name}: list at least one document of each subtask")
        leaf._instances = [each for each in leaf.instances if each.doc_id in wanted]
        leaf.doc_iterator = partial(asked_documents, leaf)
    return problems


def asked_documents(leaf: Task, **options: Any) -> Iterator[tuple[int, Any]]:
    """The documents of a task's requests; stands in for lm-eval's `Task.doc_iterator`."""
    return iter({each.doc_id: each.doc for each in leaf.instances}.items())
