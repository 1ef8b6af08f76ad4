"""Computes the objective that a point returns to Hydra's sweeper."""

from __future__ import annotations

import math
from pathlib import Path

from runner.outcome import Outcome
from runner.rundir import RunDirectory, read_json
from runner.status import Status
from runner.verdict import Verdict


def objective(name: str, directory: Path) -> float:
    """Return the objective of a finished point; NaN (infeasible) if it failed or has no verdict.

    `accuracy` is the mean of the judged metrics, or of all if none is judged; `throughput` is
    generated tokens per second; `seconds` is the evaluation time.
    """
    files = RunDirectory(directory)
    if not files.verdict.exists() or not files.outcome.exists():
        return math.nan
    verdict: Verdict = read_json(files.verdict, Verdict)
    outcome: Outcome = read_json(files.outcome, Outcome)
    if verdict.status in (Status.FAILED, Status.ERROR, Status.REFUSED, Status.INTERRUPTED):
        return math.nan
    if name == "accuracy":
        judged = [each for each in verdict.metrics if each.baseline is not None]
        scored = judged or [each for each in verdict.metrics if each.rule != "numerics"]
        values = [each.value for each in scored if each.value is not None]
        return sum(values) / len(values) if values else math.nan
    seconds = sum(task.seconds for task in outcome.tasks)
    if name == "seconds":
        return seconds
    tokens = sum(task.output_tokens for task in outcome.tasks)
    return tokens / seconds if seconds > 0 else math.nan
