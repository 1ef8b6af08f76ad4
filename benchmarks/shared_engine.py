"""Compares several tasks on one engine with the same number of lm_eval command lines.

Run it with python -m benchmarks.shared_engine. Both sides ask three of the canary's kinds of
questions, of the same model with the same settings on the same machine, one after another. A shared
engine saves starting engines and Python, and reading lm-eval's task files again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KINDS = ("canary_colour", "canary_shape", "canary_count")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=20, help="questions a task")
    limit = parser.parse_args().limit
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "sweep"
        settings = [f"task.limit={limit}", "tracking=off", "verdict.require_baseline=false"]
        names = ",".join(f"[{kind}]" for kind in KINDS)
        ours = seconds(
            [
                *[sys.executable, "-m", "runner", "--multirun", f"hydra.sweep.dir={sweep}"],
                *[f"task.names={names}", *settings],
            ],
            folder,
        )
        plans = [json.loads((sweep / str(n) / "plan.json").read_text()) for n in range(len(KINDS))]
        theirs = sum(
            seconds(["bash", "-ec", command(plan, Path(folder))], folder) for plan in plans
        )
    print(f"one sweep of {len(KINDS)} tasks on one engine: {ours:.0f} s")
    print(f"{len(KINDS)} lm_eval command lines:            {theirs:.0f} s")
    print(f"ratio: {ours / theirs:.2f}")


def command(plan: dict[str, object], folder: Path) -> str:
    """The lm_eval command line from the run's report."""
    from runner.plan import Plan
    from runner.present.lm_eval_command import lm_eval_command
    from runner.rundir import read_json, write_json

    write_json(folder / "plan.json", plan)
    return lm_eval_command(read_json(folder / "plan.json", Plan))


def seconds(words: list[str], folder: str) -> float:
    scripts = str(Path(sys.executable).parent)
    variables = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    variables |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    started = time.monotonic()
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return time.monotonic() - started


if __name__ == "__main__":
    main()
