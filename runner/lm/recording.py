"""Which answers of an ordinary run have their likeliest tokens recorded (task.distributions)."""

from __future__ import annotations

from collections.abc import Sequence

from runner.config.rules import LENGTHS
from runner.lm.script import RECORD
from runner.lm.tasks import LoadedTask

# Most steps of a run that are recorded: 168 MB of token ids and log-probabilities.
STEPS = 2**20


def mark(loaded: Sequence[LoadedTask], longest: int, steps: int = STEPS) -> None:
    """Mark the requests to record, until all of their longest answers together have `steps`.

    The first question of every subtask comes before the second one of any, as `task.limit` chooses
    them. `longest` is the length of an answer whose task sets none.
    """
    placed = [
        (place, request, task.evaluation.samples)
        for task in loaded
        for leaf in task.leaves.values()
        for place, request in enumerate(leaf.instances)
        if request.request_type == "generate_until"
    ]
    for _, request, samples in sorted(placed, key=lambda each: each[0]):
        settings = request.args[1]
        length = next((settings[name] for name in LENGTHS if settings.get(name)), longest)
        steps -= int(length) * samples * (request.repeats or 1)
        if steps < 0:
            return
        settings[RECORD] = True
