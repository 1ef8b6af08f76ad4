"""Scores that lm-eval drew at random: some parsers guess where they find no answer in a response.

MMMU's and PISA's take any of the letters. Nothing in their result says so, but a guess moves
Python's generator, and nothing else does while one answer is scored (no parser of lm-eval 0.4.13
asks NumPy's). Looking costs 30 µs an answer.
"""

from __future__ import annotations

import random
from typing import Any

from lm_eval.api.task import Task


def watch(task: Task) -> list[bool]:
    """Whether the score was drawn, for each answer from now on, in the order of lm-eval's samples.

    Scored choices are never guessed: for tasks that do not generate, the list stays empty.
    """
    drawn: list[bool] = []
    if task.OUTPUT_TYPE == "generate_until":
        score = task.process_results

        def watched(doc: Any, results: Any) -> Any:
            before = random.getstate()
            scored = score(doc, results)
            drawn.append(random.getstate() != before)
            return scored

        task.process_results = watched
    return drawn
