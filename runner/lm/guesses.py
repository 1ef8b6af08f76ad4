"""Detects scores that lm-eval drew at random.

Some parsers guess if they find no answer in a response; those of MMMU and PISA pick one of the
letters. Their results don't show it, but a guess changes the state of Python's random generator,
and nothing else does while an answer is scored (no parser of lm-eval 0.4.13 uses NumPy's
generator). The check costs 30 µs per answer.
"""

from __future__ import annotations

import random
from typing import Any

from lm_eval.api.task import Task


def watch(task: Task) -> list[bool]:
    """A list that receives, for each answer scored from now on, whether its score was a guess.

    The order is that of lm-eval's samples. Scored choices are never guessed: for tasks that do not
    generate, the list stays empty.
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
