"""Which questions of a reference run are replayed if not all are: a random draw."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable

from runner.evidence.samples import Sample


def drawn(samples: Iterable[Sample], count: int, seed: str) -> dict[str, list[int]]:
    """Documents by task (of a group: by subtask), drawn at random from those of the samples.

    Each task gives the same share, so that there are at least `count` in all if there are so many,
    and at least one of each. The same samples, count and seed always give the same documents.
    """
    every: dict[str, set[int]] = defaultdict(set)
    for each in samples:
        every[each.task].add(each.doc_id)
    share = min(1.0, count / max(sum(map(len, every.values())), 1))
    return {
        task: sorted(
            random.Random(f"{seed} {task}").sample(sorted(found), math.ceil(share * len(found)))
        )
        for task, found in sorted(every.items())
    }
