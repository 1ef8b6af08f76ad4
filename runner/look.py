"""When a run that may stop early is looked at, and in which order its questions are asked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# More looks would waste more of the significance level and of the engine's time: it is idle at the
# end of each step.
MOST = 12
# Fewer questions are never enough for a verdict.
FEWEST = 20

# A subtask and the number of a document.
Question = tuple[str, int]


@dataclass(frozen=True)
class Look:
    """Look `number` (from 1) of `of`; the last one has all questions.

    How many there are is known before the first question is asked.
    """

    number: int
    of: int

    @property
    def last(self) -> bool:
        return self.number == self.of

    @property
    def share(self) -> float:
        """Share of the significance level for a test that is valid at a single look.

        The last look has half of it, and the earlier ones share the other half (Bonferroni).
        """
        if self.of == 1:
            return 1.0
        return 0.5 if self.last else 0.5 / (self.of - 1)


# The only look at a run that asks all its questions before it is judged.
ONLY = Look(1, 1)
# The last look at a run that continues a stopped one, whose looks have used half of the level.
CONTINUED = Look(2, 2)


def shuffled(questions: Iterable[Question], seed: int) -> list[Question]:
    """Return the questions in a random order: that of their hashes with the seed."""

    def place(question: Question) -> bytes:
        return hashlib.sha256(repr((seed, *question)).encode()).digest()

    return sorted(questions, key=place)


def sizes(order: Sequence[Question], window: int) -> list[int]:
    """Return the number of questions at each look.

    A step fills the window, and the first look has a question of each subtask, because lm-eval
    can't score a subtask without questions.
    """
    step = max(math.ceil(len(order) / MOST), window, FEWEST)
    subtasks: dict[str, int] = {}
    for place, (name, _) in enumerate(order, 1):
        subtasks.setdefault(name, place)
    first = max(subtasks.values())
    return [*(end for end in range(step, len(order), step) if end >= first), len(order)]
