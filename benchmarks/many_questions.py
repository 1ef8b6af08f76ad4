"""Measures where a run of many questions with one-token answers spends its time.

    python -m benchmarks.many_questions [--questions 20000] [--other CHECKOUT]

The canary is asked for sums, as text, with the engine in the worker's process, so all time outside
engine steps is Python's. Then the same questions are asked by the lm_eval command from the run's
report, with samples logged, and by another checkout of this project, if given. The seconds of each
stage come from the run's events. Everything runs on one machine, one after another.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.question_tasks import generated, write_task
from benchmarks.whole_run import events, variables
from runner.plan import Plan
from runner.present.lm_eval_command import lm_eval_command
from runner.rundir import read_json

# The stage that each event starts.
STAGES = {
    "building requests": "building requests",
    "starting engine": "starting the engine",
    "engine_started": "requests",
    "requests_finished": "scoring and samples",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=20_000)
    parser.add_argument("--other", type=Path, help="a checkout to compare with")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_task(folder, "sums", generated(1), sums(given.questions))
        ours = run(folder, "ours", Path(__file__).parents[1])
        theirs = lm_eval(folder)
        print(f"lm_eval: {theirs:.0f} s; ours is {ours['whole'] / theirs:.2f} of it", flush=True)
        if given.other is not None:
            other = run(folder, "other", given.other.resolve())
            print("ratio: " + ", ".join(f"{k} {ours[k] / other[k]:.2f}" for k in other))


def sums(count: int) -> Iterator[dict[str, Any]]:
    numbers = random.Random(0)
    for _ in range(count):
        a, b = numbers.randrange(100), numbers.randrange(100)
        yield {"question": f"What is {a} plus {b}?", "answer": str(a + b)}


def run(folder: Path, name: str, checkout: Path) -> dict[str, float]:
    """Seconds of each stage, of all stages except the engine's start, and in total."""
    output = folder / name
    settings = ["tracking=off", "model.backend=vllm", "task.names=[sums]", "limits=none"]
    command = [sys.executable, "-m", "runner", *settings, f"task.include_path={folder}"]
    took = timed([*command, f"output_dir={output}"], folder, {"PYTHONPATH": str(checkout)})
    told = [each for each in events(output / "events.jsonl") if each["event"] != "progress"]
    seconds: dict[str, float] = {}
    for each, following in itertools.pairwise(told):
        stage = STAGES.get(each.get("stage", each["event"]), "")
        if each["event"] != "heartbeat":
            now = stage
        seconds[now] = seconds.get(now, 0.0) + following["time"] - each["time"]
    seconds.pop("")
    asked = sum(seconds.get(name, 0.0) for name in STAGES.values() if "engine" not in name)
    found = seconds | {"the three around the requests": asked, "whole": took}
    feeding = json.loads((output / "outcome.json").read_text(encoding="utf-8"))["feeding"]
    print(f"{name}: " + ", ".join(f"{k} {v:.1f} s" for k, v in found.items()))
    print(f"  {json.dumps(feeding)}", flush=True)
    return found


def lm_eval(folder: Path) -> float:
    plan: Plan = read_json(folder / "ours" / "plan.json", Plan)
    words = f"{lm_eval_command(plan)} --log_samples --output_path {folder / 'theirs'}"
    return timed(["bash", "-ec", words], folder, {})


def timed(words: list[str], folder: Path, named: Mapping[str, Any]) -> float:
    began = time.monotonic()
    environment = {**os.environ, **variables(), **named}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 3, 4), done.stdout[-3000:] + done.stderr[-3000:]
    return time.monotonic() - began


if __name__ == "__main__":
    main()
