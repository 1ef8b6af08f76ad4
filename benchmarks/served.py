"""Measures a whole evaluation of a running server against lm_eval's own client.

    python -m benchmarks.served [--pairs 3] [--questions 1000]

One `vllm serve` of the canary answers everything: its 600 questions about images, and short
questions of text. Each pair runs `python -m runner engine=endpoint`, and then the lm_eval command
from that run's report, with as many concurrent requests and with samples logged.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.many_questions import sums, timed
from benchmarks.question_tasks import generated, write_task
from benchmarks.whole_run import variables
from runner.canary import WEIGHTS
from runner.plan import Plan
from runner.platforms.cpu import Cpu
from runner.present.lm_eval_command import lm_eval_command
from runner.rundir import read_json

READY_S = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--questions", type=int, default=1000, help="questions of text")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as url:
        folder = Path(name)
        write_task(folder, "sums", generated(1), sums(given.questions))
        text = ["model.backend=vllm", "task.names=[sums]", f"task.include_path={folder}"]
        for kind, settings in {"600 images": [], f"{given.questions} texts": text}.items():
            pairs = [pair(folder, url, settings) for _ in range(given.pairs)]
            ratio = statistics.median(ours / theirs for ours, theirs in pairs)
            told = ", ".join(f"{ours:.0f} and {theirs:.0f} s" for ours, theirs in pairs)
            print(f"{kind}: {told}; median ratio {ratio:.2f}", flush=True)


def pair(folder: Path, url: str, settings: list[str]) -> tuple[float, float]:
    """Seconds of our run and of lm_eval's."""
    output = Path(tempfile.mkdtemp(dir=folder))
    words = [sys.executable, "-m", "runner", "engine=endpoint", f"engine.endpoint.url={url}"]
    words += ["engine.endpoint.model=canary", "tracking=off", *settings, f"output_dir={output}/run"]
    ours = timed(words, folder, {"PYTHONPATH": str(Path(__file__).parents[1])})
    plan: Plan = read_json(output / "run" / "plan.json", Plan)
    command = f"{lm_eval_command(plan)} --log_samples --output_path {output / 'theirs'}"
    return ours, timed(["bash", "-ec", command], folder, {"OPENAI_API_KEY": "none"})


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The URL of a server with the canary."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {**os.environ, **variables(), "VLLM_CPU_KVCACHE_SPACE": "1"}
    words = f"serve {WEIGHTS} --dtype float32 --max-model-len 1024 --enforce-eager --port {port}"
    limits = ["--host", "127.0.0.1", "--served-model-name", "canary"]
    images = ["--limit-mm-per-prompt", '{"image": 2}']
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.cli.main", *words.split(), *limits, *images],
            env={**own, **Cpu().worker_environment(1, own, eager=True)},
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + READY_S
        while time.monotonic() < until and process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
