"""Detects few-shot examples that contain the tested question and its answer.

lm-eval excludes the tested document from its few-shot examples only if they come from `test_split`
under that name. Examples from a validation split that is being tested, or from lm-eval's default
split, can be the question itself. A data set that contains a question twice has the same effect.
"""

from __future__ import annotations

from typing import Any

from lm_eval.api.task import Task

# A rendered example: question, choices and answer.
Turn = tuple[Any, Any, Any]


class Examples:
    """Records the few-shot examples that lm-eval puts before each question of a task."""

    def __init__(self, task: Task) -> None:
        """Wrap the task's sampler and `build_qa_turn`, if it has them."""
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
        """Forget the last question's examples; lm-eval is about to build the next question."""
        self._drawn, self._turns = [], []

    def hold(self, doc: Any) -> bool:
        """Whether the examples of the question just built contain that question and its answer."""
        if not self._drawn:
            return False
        seen = getattr(self._task, "MULTIMODAL", False)
        # Comparing documents decodes their images, so compare only those with the same
        # question text.
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
