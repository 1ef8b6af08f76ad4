"""Few-shot examples that contain the question under test and its answer.

lm-eval leaves a document out of its own examples only where they are drawn from `test_split` by
that name: examples from a validation split under test, or by its rule for tasks that name no
split, can be the question itself. A data set that holds a question twice does the same.
"""

from __future__ import annotations

from typing import Any

from lm_eval.api.task import Task

# A rendered example: question, choices and answer.
Turn = tuple[Any, Any, Any]


class Examples:
    """The examples that lm-eval puts before each question of a task."""

    def __init__(self, task: Task) -> None:
        """Follow the task's sampler and what it makes of each document, where it has them."""
        self._task = task
        self._drawn: list[Any] = []
        self._turns: list[Turn] = []
        sampler, build = getattr(task, "sampler", None), getattr(task, "build_qa_turn", None)
        if sampler is None or build is None:
            return
        draw = sampler.sample

        def drawn(*args: Any, **kwargs: Any) -> Any:
            self._drawn = draw(*args, **kwargs)
            return self._drawn

        def built(**parts: Any) -> Any:
            self._turns.append((parts.get("q"), parts.get("c"), parts.get("a")))
            return build(**parts)

        sampler.sample = drawn
        task.build_qa_turn = built

    def begin(self) -> None:
        """The next question is about to be built."""
        self._drawn, self._turns = [], []

    def hold(self, doc: Any) -> bool:
        """Whether those of the question just built hold it, and its answer."""
        if not self._drawn:
            return False
        seen = getattr(self._task, "MULTIMODAL", False)
        # Comparing documents reads their images: only those that are asked in the same words.
        if not seen and any(example == doc for example in self._drawn):
            return True
        count = len(self._drawn)
        *question, _ = self._turns[count]
        return any(
            text == question
            and answer == self._task.doc_to_target(doc)
            and (not seen or example == doc)
            for example, (*text, answer) in zip(self._drawn, self._turns, strict=False)
        )
