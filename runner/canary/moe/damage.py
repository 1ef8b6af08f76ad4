"""Measures what faults do to the mixture-of-experts canary, with transformers."""

import copy
import tempfile
from pathlib import Path
from typing import Any

from runner.canary.damage import Damage, compared
from runner.canary.damaged import write_damaged
from runner.canary.fault import Fault
from runner.canary.moe import WEIGHTS
from runner.canary.moe.data import load
from runner.canary.moe.score import force, open_weights, reply
from runner.canary.score import Forced, Scored


class Bench:
    """A healthy model, its questions and its replies, with which faults are compared."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self.weights = weights
        self.model, self.tokenizer = open_weights(weights)
        self.questions = load()
        self.said = reply(self.model, self.tokenizer, self.questions)
        self.healthy = self.force(Fault("healthy", ""))

    def damaged(self, fault: Fault) -> Any:
        """The model with a fault."""
        model = self.model
        if fault.edit:
            with tempfile.TemporaryDirectory() as directory:
                write_damaged(fault, Path(directory) / "damaged", self.weights)
                model, _ = open_weights(Path(directory) / "damaged")
        if fault.change:
            model = copy.deepcopy(model)
            fault.change(model)
        return model

    def force(self, fault: Fault) -> tuple[Forced, Scored]:
        """The healthy replies forced on the model with a fault, and scores of the right answers."""
        model = self.damaged(fault)
        targets = [question.answer for question in self.questions]
        forced, right = (
            force(model, self.tokenizer, self.questions, answers)
            for answers in (self.said, targets)
        )
        return forced, right.scored()

    def measure(self, fault: Fault) -> Damage:
        """Inject a fault and compare with the healthy model."""
        return compared(fault, self.force(fault), self.healthy)
