"""What a search will cost at most, from the timings of the two runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.outcome import Outcome
from runner.rundir import RunDirectory, read_json
from runner.why.switches import Switch

# Probes besides the search: the good run twice (on one engine), once more for the noise of another
# data type, the bad run, and the bad run without the cause.
BESIDES, BESIDES_STARTS = 5, 4
# On a cluster, the first four of these run at the same time, and then the last one.
BESIDES_ROUNDS = 2
# Runs of the trace of a cause: the good run, once more in other batches, and with the cause. The
# second shares the first one's engine unless the cause is a data type.
TRACED, TRACED_STARTS = 3, 2
DTYPE = "engine.dtype"
# What a run spends before its engine can answer.
BEFORE = ("load_tasks_s", "start_engine_s")


@dataclass(frozen=True)
class Cost:
    """The most that a search for a single cause takes, and the trace of it.

    `starts` are those of engines, for the probes and the `traced` runs. `seconds` are for all of
    them, None if no timing is known. If they run `side_by_side`, these are with a device for each.
    """

    probes: int
    traced: int
    starts: int
    seconds: float | None
    side_by_side: bool = False


def cost(
    switches: Sequence[Switch], runs: Sequence[RunDirectory], side_by_side: bool = False
) -> Cost:
    """Return the cost for one cause. Interactions and further causes take more probes.

    Each level of `ddmin` halves the switches with two probes at most. Side by side, no probe shares
    another one's engine, and one that is asked more questions starts it again.
    """
    halvings = 2 * math.ceil(math.log2(len(switches))) if len(switches) > 1 else 1
    types = any(change.key == DTYPE for each in switches for change in each.changes)
    tracing = TRACED_STARTS + types
    turns = starts = halvings + BESIDES_STARTS + tracing
    if side_by_side:
        starts = 2 * halvings + BESIDES + tracing
        turns = 2 * math.ceil(halvings / 2) + BESIDES_ROUNDS + tracing
    timings = [_seconds(run) for run in runs if run.outcome.is_file()]
    known = [each for each in timings if each is not None]
    seconds = max(known) * turns if known else None
    return Cost(halvings + BESIDES, TRACED, starts, seconds, side_by_side)


def _seconds(run: RunDirectory) -> float | None:
    """Seconds of a run, as those of a probe at most: a replay asks no more questions."""
    try:
        outcome: Outcome = read_json(run.outcome, Outcome)
    except ValueError:  # of another version of the runner
        return None
    found = outcome.timings
    if not all(name in found for name in BEFORE):
        return None
    return math.fsum(found.values())
