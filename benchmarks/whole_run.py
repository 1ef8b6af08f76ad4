"""A whole run against the lm_eval command line with the same settings, and what resuming takes.

    python -m benchmarks.whole_run [--limit 100]

Both sides ask the canary's six kinds of question of the same model on the same machine, one after
the other, and keep every sample. The third run is killed, with all its processes, when half of its
requests are answered; the fourth goes on from the journal.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from runner.plan import Plan
from runner.processes import group_members
from runner.rundir import read_json


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=int, default=100, help="questions a kind, 100 at most")
    limit = parser.parse_args().limit
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, whole_s = run(folder, "whole", limit)
        theirs_s = lm_eval(folder)
        killed_at = kill_half_way(folder, limit)
        resumed, resumed_s = run(folder, "resumed", limit)
    feeding = {"whole": whole["feeding"], "resumed": resumed["feeding"]}
    print(f"whole run:         {whole_s:.0f} s; {json.dumps(feeding['whole'])}")
    print(f"lm_eval:           {theirs_s:.0f} s; ratio {whole_s / theirs_s:.2f}")
    print(f"killed at:         {killed_at} requests answered")
    print(f"resumed:           {resumed_s:.0f} s; ratio {resumed_s / whole_s:.2f}; ", end="")
    print(json.dumps(feeding["resumed"]))
    again = max(killed_at - resumed["feeding"]["resumed"], 0)
    print(f"asked again:       {again} of those that were answered")
    print(f"same metrics:      {metrics(whole) == metrics(resumed)}")


def metrics(outcome: dict[str, Any]) -> list[tuple[str, float]]:
    return [(m["task"], m["value"]) for task in outcome["tasks"] for m in task["metrics"]]


def command(directory: Path, limit: int) -> list[str]:
    settings = [f"task.limit={limit}", "tracking=off", "limits=none"]
    return [sys.executable, "-m", "runner", f"output_dir={directory}", *settings]


def variables() -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    chosen = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    return chosen | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


def run(folder: Path, name: str, limit: int) -> tuple[dict[str, Any], float]:
    """Its outcome, and its seconds."""
    seconds = timed(command(folder / name, limit), folder)
    outcome: dict[str, Any] = json.loads((folder / name / "outcome.json").read_text())
    return outcome, seconds


def lm_eval(folder: Path) -> float:
    """As the run's report prints it, samples kept."""
    plan: Plan = read_json(folder / "whole" / "plan.json", Plan)
    words = f"{plan.lm_eval_command()} --log_samples --output_path {folder / 'theirs'}"
    return timed(["bash", "-ec", words], folder)


def timed(words: list[str], folder: Path) -> float:
    began = time.monotonic()
    done = subprocess.run(words, cwd=folder, env=variables(), capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stdout[-3000:] + done.stderr[-3000:]
    return time.monotonic() - began


def kill_half_way(folder: Path, limit: int) -> int:
    """Requests that were answered when worker and parent were killed."""
    directory = folder / "killed"
    parent = subprocess.Popen(
        command(directory, limit), cwd=folder, env=variables(), stdout=subprocess.DEVNULL
    )
    worker, done = 0, 0
    while parent.poll() is None:
        time.sleep(0.02)
        for event in events(directory / "events.jsonl"):
            if event["event"] == "worker_started":
                worker = event["pid"]
            if event["event"] == "progress":
                done = event["done"]
                if done >= event["total"] / 2:
                    parent.send_signal(signal.SIGKILL)
                    for process in group_members(worker):
                        process.kill()
                    parent.wait()
                    last = [
                        e for e in events(directory / "events.jsonl") if e["event"] == "progress"
                    ]
                    return int(last[-1]["done"])
    raise RuntimeError("the run ended before it was killed")


def events(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
