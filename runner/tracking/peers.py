"""Runs in MLflow that repeat another one: the same stack, and the same evaluation.

All this runs in the process that imports MLflow (runner/tracking/sender.py).
"""

from __future__ import annotations

import math
from typing import Any

from runner.channel.sender import FindPeers
from runner.status import FINAL

# The tags that are equal in repeats of a run.
SAME = ("engine_fingerprint", "evaluation_fingerprint")
# With two runs, either is the better one, whoever chose it.
FEWEST = 3


def find_peers(wanted: FindPeers) -> tuple[str, ...]:
    """Return the ids of the runs that the run is the best of, in any of the metrics.

    The run itself is the first. Empty if fewer than FEWEST runs have the metric, all are equal, or
    another run is better.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=wanted.uri)
    run = client.get_run(wanted.run_id)
    fingerprints = [run.data.tags.get(name, "") for name in SAME]
    if not all(fingerprints):
        return ()
    same = [f"tags.{name} = '{value}'" for name, value in zip(SAME, fingerprints, strict=True)]
    found = client.search_runs([run.info.experiment_id], " and ".join(same), max_results=1000)
    judged = [each for each in found if each.data.tags.get("verdict") in FINAL]
    for metric, higher_is_better in wanted.metrics.items():
        values = {each.info.run_id: _value(each, metric) for each in judged}
        known = {run_id: value for run_id, value in values.items() if math.isfinite(value)}
        if len(known) < FEWEST or wanted.run_id not in known:
            continue
        signed = {name: value if higher_is_better else -value for name, value in known.items()}
        own = signed.pop(wanted.run_id)
        if own >= max(signed.values()) and own > min(signed.values()):
            return (wanted.run_id, *signed)
    return ()


def _value(run: Any, metric: str) -> float:
    return float(run.data.metrics.get(metric, math.nan))
