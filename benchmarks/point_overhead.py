"""Measures the runner's overhead per sweep point, beyond engine start and requests.

Run it with python -m benchmarks.point_overhead. It compares two processes, timed from start to end
except for the engine's start. The first is a sweep over the canary's kinds of questions on one
engine, recorded in MLflow and compared at its end. The second is the minimal equivalent: lm-eval's
own model class, created once, and `simple_evaluate` in a loop, which keeps no samples and records
nothing. The difference is composition, checks, samples, verdicts, reports, MLflow and the
comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[1]
KINDS = ("colour", "shape", "place", "count", "compare", "number")

LOOP = """
import json, sys, time
from lm_eval import simple_evaluate
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager
plan, tasks, limit = json.loads(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
manager = TaskManager(include_path=plan["include_path"])
lm = get_model(plan["backend"])(**plan["engine_args"], batch_size="auto")
print("ready", time.time(), flush=True)
for task in tasks:
    simple_evaluate(model=lm, tasks=[task], task_manager=manager, limit=limit,
                    apply_chat_template=True, fewshot_as_multiturn=True, log_samples=False)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=20, help="questions a point")
    limit = parser.parse_args().limit
    tasks = [f"canary_{kind}" for kind in KINDS]
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "sweep"
        ours = of_a_sweep(sweep, tasks, limit)
        our_work = processor_seconds()
        plan = json.loads((sweep / "0" / "plan.json").read_text())
        theirs = of_a_loop(plan, tasks, limit)
        their_work = processor_seconds() - our_work
    count = len(tasks)
    print(f"{count} points in a sweep, without the engine's start: {ours:.1f} s")
    print(f"{count} calls of simple_evaluate:                      {theirs:.1f} s")
    print(f"what the runner adds to a point: {(ours - theirs) / count:.2f} s")
    print(
        f"of processor time, engine's start included: {our_work:.1f} s against {their_work:.1f} s, "
        f"{(our_work - their_work) / count:.2f} s a point"
    )


def of_a_sweep(sweep: Path, tasks: list[str], limit: int) -> float:
    """Seconds from the command's start to its end, without the time until its engine was ready."""
    names = ",".join(f"[{task}]" for task in tasks)
    words = [f"hydra.sweep.dir={sweep}", f"task.names={names}", f"task.limit={limit}"]
    words += ["verdict.require_baseline=false", f"tracking.uri=sqlite:///{sweep.parent}/mlflow.db"]
    began = time.time()
    finished([sys.executable, "-m", "runner", "--multirun", *words], sweep.parent, {})
    took = time.time() - began
    lines = (sweep / "0" / "events.jsonl").read_text().splitlines()
    times = {event["event"]: event["time"] for event in map(json.loads, lines)}
    return took - (times["engine_started"] - times["worker_started"])


def of_a_loop(plan: dict[str, object], tasks: list[str], limit: int) -> float:
    """Seconds from when the engine is ready to the end of the process."""
    words = [sys.executable, "-c", LOOP, json.dumps(plan), json.dumps(tasks), str(limit)]
    environment = dict(plan["environment"])  # type: ignore[call-overload]
    # Otherwise lm-eval encodes every image as PNG, twice, to hash it.
    environment["LMEVAL_HASHMM"] = "0"
    said = finished(words, Path(str(plan["data_dir"])), environment)
    ended = time.time()
    (ready,) = [line.split()[1] for line in said.splitlines() if line.startswith("ready ")]
    return ended - float(ready)


def processor_seconds() -> float:
    """CPU seconds of all child processes that have ended; other load does not add to them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def finished(words: list[str], directory: Path, environment: dict[str, str]) -> str:
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    variables |= {"PYTHONPATH": str(PROJECT), **environment}
    done = subprocess.run(words, cwd=directory, env=variables, capture_output=True, text=True)
    assert done.returncode in (0, 3, 4), done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


if __name__ == "__main__":
    main()
