"""Compares a whole run with the lm_eval command line, and measures what resuming takes.

    python -m benchmarks.whole_run [--questions 1500] [--tokens 64] [--at-once 32]

Both sides use the same settings: they ask the canary the same number of questions about images of
224 to 448 pixels on the same machine, one after another, for answers of the given number of tokens,
and keep every sample. The third run is killed, with all its processes, when half of its requests
are answered; the fourth resumes from the journal. CPU seconds of all processes of a side are
reported as well as the wall-clock time, because other load on the machine affects them less.

Everything is measured twice: at the CPU's own speed, and with every engine step padded to 25 ms,
the time that a large model takes on an accelerator.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.feeding_memory import data_set
from benchmarks.keeping_full import PADDING, STEP_S
from runner.plan import Plan
from runner.present.lm_eval_command import lm_eval_command
from runner.rundir import read_json
from runner.supervision.processes import group_members

SIDES = (224, 448)


@dataclass(frozen=True)
class Took:
    """Wall-clock and CPU seconds."""

    wall: float
    cpu: float

    def of(self, other: Took) -> str:
        return f"ratio {self.wall / other.wall:.2f}, of CPU time {self.cpu / other.cpu:.2f}"

    def __str__(self) -> str:
        return f"{self.wall:.0f} s, {self.cpu:.0f} s of CPU time"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=1500)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--at-once", type=int, default=32, help="the engine's max_num_seqs")
    given = parser.parse_args()
    length = given.tokens
    answers = f"task.gen_kwargs={{max_gen_toks:{length},min_tokens:{length},ignore_eos:true}}"
    with tempfile.TemporaryDirectory() as name:
        data = data_set(Path(name), given.questions, SIDES)
        concurrency = f"engine.extra.max_num_seqs={given.at_once}"
        settings = [*data, answers, concurrency, "limits=none"]
        for kind, environment in (("plain", variables()), ("padded", padded())):
            folder = Path(name) / kind
            folder.mkdir()
            print(f"{kind}:", flush=True)
            Sides(folder, settings, environment).measure()


@dataclass(frozen=True)
class Sides:
    """The four runs, in their own folder."""

    folder: Path
    settings: list[str]
    environment: dict[str, str]

    def measure(self) -> None:
        whole, ours = self.run("whole")
        print(f"  whole run:    {ours}; {fed(whole)}", flush=True)
        theirs = self.lm_eval()
        print(f"  lm_eval:      {theirs}; ours is {ours.of(theirs)}", flush=True)
        killed_at = self.kill_half_way()
        print(f"  killed at:    {killed_at} requests answered", flush=True)
        resumed, again = self.run("resumed")
        print(f"  resumed:      {again}; {again.of(ours)}; {fed(resumed)}")
        repeated = max(killed_at - resumed["feeding"]["resumed"], 0)
        print(f"  asked again:  {repeated} of those that were answered")
        print(f"  same metrics: {metrics(whole) == metrics(resumed)}", flush=True)

    def run(self, name: str) -> tuple[dict[str, Any], Took]:
        """A run's outcome and its time."""
        took = self.timed(self.command(name))
        outcome: dict[str, Any] = json.loads((self.folder / name / "outcome.json").read_text())
        return outcome, took

    def lm_eval(self) -> Took:
        """Time of the lm_eval command from the run's report, with samples kept."""
        plan: Plan = read_json(self.folder / "whole" / "plan.json", Plan)
        words = f"{lm_eval_command(plan)} --log_samples --output_path {self.folder / 'theirs'}"
        return self.timed(["bash", "-ec", words])

    def kill_half_way(self) -> int:
        """Number of requests that were answered when worker and parent were killed."""
        parent = subprocess.Popen(
            self.command("killed"),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
        )
        file, worker = self.folder / "killed" / "events.jsonl", 0
        while parent.poll() is None:
            time.sleep(0.02)
            told = events(file)
            worker = next((each["pid"] for each in told if each["event"] == "worker_started"), 0)
            progress = [each for each in told if each["event"] == "progress"]
            if any(each["done"] >= each["total"] / 2 for each in progress):
                parent.send_signal(signal.SIGKILL)
                for process in group_members(worker):
                    process.kill()
                parent.wait()
                return max(each["done"] for each in events(file) if each["event"] == "progress")
        raise RuntimeError("the run ended before it was killed")

    def command(self, name: str) -> list[str]:
        output = f"output_dir={self.folder / name}"
        return [sys.executable, "-m", "runner", output, *self.settings]

    def timed(self, words: list[str]) -> Took:
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode in (0, 3, 4), done.stdout[-3000:] + done.stderr[-3000:]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Took(time.monotonic() - began, cpu)


def fed(outcome: dict[str, Any]) -> str:
    feeding = outcome["feeding"]
    return "{asked} asked, {resumed} resumed, {steps} steps".format(**feeding)


def metrics(outcome: dict[str, Any]) -> list[tuple[str, float]]:
    return [(m["task"], m["value"]) for task in outcome["tasks"] for m in task["metrics"]]


def variables() -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    chosen = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    return chosen | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


def padded() -> dict[str, str]:
    chosen = variables()
    path = os.pathsep.join((str(PADDING), chosen["PYTHONPATH"]))
    return chosen | {"PYTHONPATH": path, "PADDED_STEP_S": str(STEP_S)}


def events(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
