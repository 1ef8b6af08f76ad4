"""Times python -m runner.history over an MLflow store of 2,000 runs.

    python -m benchmarks.history [--runs 2000] [--series 20]

The store is SQLite. The runs have as many metrics, parameters and tags as real ones. They are
inserted with MLflow's own tables, because uploading them one by one would take minutes. One
configuration in four loses accuracy on its twentieth-last night.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.tracking.store import client_of

DAY_MS = 86_400_000
START_MS = 1_767_225_600_000
QUESTIONS = 900
# Metrics, parameters and tags of a run that history does not read.
OTHERS = 24


def main() -> None:
    """Make the store, run the command three times, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--series", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "mlflow.db")
        fill(file, given.runs, given.series)
        for _ in range(3):
            began = time.perf_counter()
            ended = subprocess.run(
                [
                    *(sys.executable, "-m", "runner.history", "--uri", f"sqlite:///{file}"),
                    *("--output", str(Path(directory, "out"))),
                ],
                capture_output=True,
                text=True,
            )
            took = time.perf_counter() - began
            page = Path(directory, "out", "history.html").stat().st_size / 1e6
            print(f"{took:.1f} s, {page:.1f} MB, exit status {ended.returncode}")


def fill(file: Path, runs: int, series: int) -> None:
    """Insert the runs: night after night, a run of each series."""
    from mlflow.store.tracking.dbmodels import models

    client = client_of(f"sqlite:///{file}")
    experiment = int(client.create_experiment("nightly"))
    store = client._tracking_client.store
    random.seed(0)
    nights = runs // series
    with store.ManagedSessionMaker() as session:
        for night in range(nights):
            for number in range(series):
                session.add_all(_rows(models, experiment, night, number, nights))


def _rows(models: Any, experiment: int, night: int, number: int, nights: int) -> Iterator[Any]:
    run_id, when = uuid.uuid4().hex, START_MS + night * DAY_MS + number * 60_000
    yield models.SqlRun(
        run_uuid=run_id,
        name="run",
        experiment_id=experiment,
        status="FINISHED",
        start_time=when,
        end_time=when + 1000,
        lifecycle_stage="active",
        source_type="LOCAL",
        user_id="nobody",
        artifact_uri=f"file:///nowhere/{run_id}",
    )
    bad = number % 4 == 0 and night >= nights - 20
    value = 0.9 - 0.04 * bad + random.gauss(0, 0.002)
    metrics = {
        "gsm8k/exact_match": value,
        "gsm8k/exact_match_stderr": 0.01,
        "gsm8k/exact_match_difference": value - 0.9,
        "gsm8k/degenerate": 0.0,
        "perf/output_tokens_per_s": random.gauss(900, 20),
        "perf/start_engine_s": random.gauss(60, 3),
    }
    params = {"model": f"model_{number // 2}", "task": "gsm8k", "tp": str(1 + number % 2)}
    tags = {
        "run_key": run_id,
        "verdict": "FAILED" if bad else "PASSED",
        "version.vllm": f"0.{20 + night // 30}",
        "weights_digest": f"{number:032x}",
        "mlflow.note.content": "x" * 4500,
        "details.gsm8k": (
            f'{{"gsm8k/exact_match": {{"n": {QUESTIONS}, "interval": [{value - 0.02},'
            f' {value + 0.02}], "tolerated": [0.857, 0.947], "judged": true}}}}'
        ),
    }
    for other in range(OTHERS):
        metrics[f"perf/other_{other}"] = 1.0
        params[f"other_{other}"] = "value"
        tags[f"version.other-{other}"] = "1.2.3"
    for key, number_ in metrics.items():
        row = {"key": key, "value": number_, "timestamp": when, "step": 0, "is_nan": False}
        yield models.SqlLatestMetric(run_uuid=run_id, **row)
        yield models.SqlMetric(run_uuid=run_id, **row)
    for key, text in params.items():
        yield models.SqlParam(key=key, value=text, run_uuid=run_id)
    for key, text in tags.items():
        yield models.SqlTag(key=key, value=text, run_uuid=run_id)


if __name__ == "__main__":
    main()
