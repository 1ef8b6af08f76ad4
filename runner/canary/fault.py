"""The type of a fault: how it is injected, and what goes wrong in reality."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.canary.batch import Batch
from runner.canary.checkpoint import Checkpoint
from runner.canary.questions import Question

Edit = Callable[[Checkpoint], None]
Change = Callable[[Any], None]
Rewrite = Callable[[Batch], Batch]
Redraw = Callable[[Question], Question]


@dataclass(frozen=True)
class Fault:
    """A fault in a model's files or in what a stack does with them; with neither, the reference.

    name: as in the table of docs/canary.md
    reality: one sentence, what goes wrong in a real stack
    edit: damages the files of a model directory
    change: damages a loaded model
    rewrite: damages the tensors of a batch
    redraw: damages a question
    system: the system message of the prompts that the fault is measured with
    """

    name: str
    reality: str
    edit: Edit | None = None
    change: Change | None = None
    rewrite: Rewrite | None = None
    redraw: Redraw | None = None
    system: str = ""

    @property
    def key(self) -> str:
        """The name on a command line: lower-case words joined by hyphens."""
        return "-".join(re.findall(r"[a-z0-9.]+", self.name.lower()))
