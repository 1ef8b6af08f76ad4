"""Which questions of a reference run are replayed if not all are: a random draw."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable

from runner.evidence.samples import Sample


def drawn(samples: Iterable[Sample], count: int, seed: str) -> dict[str, list[int]]:
    """Documents by task (of a group: by subtask), drawn at random from those of the samples.

    Of each evaluation, there are at least `count` in all if there are so many, the same share of
    each subtask, and at least one of each. The same samples, count and seed always give the same
    documents.
    """
    every: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for each in samples:
        every[each.evaluation][each.task].add(each.doc_id)
    chosen: dict[str, set[int]] = defaultdict(set)
    for evaluation, tasks in sorted(every.items()):
        share = min(1.0, count / sum(map(len, tasks.values())))
        for task, found in sorted(tasks.items()):
            dice = random.Random(f"{seed} {evaluation} {task}")
            chosen[task].update(dice.sample(sorted(found), math.ceil(share * len(found))))
    return {task: sorted(documents) for task, documents in chosen.items()}
