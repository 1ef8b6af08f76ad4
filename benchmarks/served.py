"""Measures whole evaluations of a running server against lm_eval's own client and an engine.

    python -m benchmarks.served [pairs] [--pairs 3] [--questions 1000]
    python -m benchmarks.served padded [--pairs 3] [--questions 1000] [--tokens 32]
    python -m benchmarks.served memory [--questions 10000]

`vllm serve` with the canary answers its 600 questions about images, and short questions of text.

- pairs: `python -m runner engine=endpoint`, and the lm_eval command from that run's report, with as
  many concurrent requests and with samples logged, in turns. The server has seen all images before.
  Also the CPU seconds of the client and of the server on each side, as medians.
- padded: the request phase of that run, and of one with an engine in the worker's process, with as
  many requests at a time. Each engine step takes at least 25 ms, as with a large model.
- memory: the resident size of parent and worker against answered requests.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.feeding_memory import curve
from benchmarks.many_questions import sums, timed
from benchmarks.question_tasks import generated, write_task
from benchmarks.whole_run import padded, variables
from runner.canary import WEIGHTS
from runner.outcome import Outcome
from runner.plan import Plan
from runner.platforms.cpu import Cpu
from runner.present.lm_eval_command import lm_eval_command
from runner.rundir import read_json

READY_S = 600
WINDOW = 32
PROJECT = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class Took:
    """Seconds of an evaluation, and CPU seconds of its processes and of the server's meanwhile."""

    wall: float
    client: float
    server: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("pairs", "padded", "memory"), default="pairs")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--questions", type=int, help="questions of text")
    parser.add_argument("--tokens", type=int, default=1, help="tokens of an answer to text")
    given = parser.parse_args()
    number = given.questions or (10_000 if given.what == "memory" else 1000)
    steps = {**padded(), "PADDED_CLASS": "EngineCore"} if given.what == "padded" else variables()
    with tempfile.TemporaryDirectory() as name, serving(Path(name), steps) as url:
        folder = Path(name)
        asked = generated(given.tokens)
        asked["generation_kwargs"] |= {"min_tokens": given.tokens}
        write_task(folder, "sums", asked, sums(number))
        text = ["model.backend=vllm", "task.names=[sums]", f"task.include_path={folder}"]
        if given.what == "memory":
            remember(folder, url, number, text)
            return
        for kind, settings in {
            "600 images": [],
            f"{number} texts of {given.tokens} tokens": text,
        }.items():
            if given.what == "padded":
                pairs = [phases(folder, url, settings, steps) for _ in range(given.pairs)]
            else:
                _, first = ours(folder, url, settings)
                theirs(folder, first)
                both = [pair(folder, url, settings, first, turn) for turn in range(given.pairs)]
                sides = zip(("runner", "lm_eval"), zip(*both, strict=True), strict=True)
                for name, side in sides:
                    client = statistics.median(each.client for each in side)
                    server = statistics.median(each.server for each in side)
                    print(f"{kind}: {name}: CPU seconds {client:.1f}, server's {server:.1f}")
                pairs = [(one.wall, other.wall) for one, other in both]
            ratio = statistics.median(one / other for one, other in pairs)
            told = ", ".join(f"{one:.1f} and {other:.1f} s" for one, other in pairs)
            print(f"{kind}: {told}; median ratio {ratio:.2f}", flush=True)


def pair(
    folder: Path, url: str, settings: Sequence[str], first: Path, turn: int
) -> tuple[Took, Took]:
    """Our run and lm_eval's, which begins every second time."""
    if turn % 2:
        other = theirs(folder, first)
        return ours(folder, url, settings)[0], other
    return ours(folder, url, settings)[0], theirs(folder, first)


def ours(folder: Path, url: str, settings: Sequence[str]) -> tuple[Took, Path]:
    """A run, and its directory."""
    run = Path(tempfile.mkdtemp(dir=folder)) / "run"
    return took(words(url, settings, run), folder, {"PYTHONPATH": PROJECT}), run


def words(url: str, settings: Sequence[str], run: Path) -> list[str]:
    server = [
        "engine=endpoint",
        f"engine.endpoint.url={url}",
        "engine.endpoint.model=canary",
        "engine.endpoint.probe=false",
    ]
    return [sys.executable, "-m", "runner", *server, "tracking=off", *settings, f"output_dir={run}"]


def theirs(folder: Path, run: Path) -> Took:
    """lm_eval's client with what a run has asked."""
    plan: Plan = read_json(run / "plan.json", Plan)
    output = tempfile.mkdtemp(dir=folder)
    command = f"{lm_eval_command(plan)} --log_samples --output_path {output}"
    return took(["bash", "-ec", command], folder, {"OPENAI_API_KEY": "none"})


def took(command: list[str], folder: Path, variables: dict[str, str]) -> Took:
    client, server = _processor_time()
    wall = timed(command, folder, variables)
    after = _processor_time()
    return Took(wall, after[0] - client, after[1] - server)


def _processor_time() -> tuple[float, float]:
    """Seconds of the processes that have ended, and of those that run: the server's."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [each.cpu_times() for each in psutil.Process().children(recursive=True)]
    return ended.ru_utime + ended.ru_stime, sum(each.user + each.system for each in running)


def phases(
    folder: Path, url: str, settings: Sequence[str], variables: Mapping[str, str]
) -> tuple[float, float]:
    """Seconds of the request phase with the server, and with an engine in the worker."""
    _, served = ours(folder, url, settings)
    inside = Path(tempfile.mkdtemp(dir=folder)) / "run"
    one = [sys.executable, "-m", "runner", "tracking=off", f"engine.extra.max_num_seqs={WINDOW}"]
    timed([*one, f"engine.window={WINDOW}", *settings, f"output_dir={inside}"], folder, variables)
    found = []
    for run in (served, inside):
        outcome: Outcome = read_json(run / "outcome.json", Outcome)
        assert outcome.feeding is not None
        found.append(outcome.feeding.seconds)
    return found[0], found[1]


def remember(folder: Path, url: str, number: int, settings: Sequence[str]) -> None:
    run = folder / "run"
    environment = {**os.environ, "PYTHONPATH": PROJECT}
    parent = subprocess.Popen(
        words(url, settings, run), cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    curve(parent, run / "events.jsonl", number)


@contextmanager
def serving(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The URL of a server with the canary."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {**os.environ, **environment, "VLLM_CPU_KVCACHE_SPACE": "1"}
    words = f"serve {WEIGHTS} --dtype float32 --max-model-len 1024 --enforce-eager --port {port}"
    words += f" --max-num-seqs {WINDOW}"
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
