"""Measures the memory of the engine with images in flight, and of a long run's two processes.

    python -m benchmarks.feeding_memory engine          96 images of 672×672 all at once and by a
                                                        window of 32, and 1,000 by the window
    python -m benchmarks.feeding_memory run [--questions 10000]

The engine's memory is the highest resident size of its process while requests are answered, minus
the size before the first request. Each case runs in a process of its own. A run's curve shows the
resident size of parent and worker (which contains the engine) against answered requests.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.keeping_full import (
    PROJECT,
    Engine,
    Quiet,
    environment,
    lm_evals_own,
    model,
    ours,
    questions,
)

SIDE, WINDOW = 672, 32
CASES = {
    "all at once, 96": ("auto", 96),
    "window, 96": ("window", 96),
    "window, 1000": ("window", 1000),
}
MIB = 2**20
TASK = """\
task: noise
dataset_path: {data}
dataset_kwargs: {{data_files: {{validation: validation.parquet}}}}
test_split: validation
output_type: generate_until
doc_to_text: "<image>Which number is {{{{number}}}}?"
doc_to_image: [image]
doc_to_target: "{{{{number}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 4, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


class Peak:
    """The highest resident size of this process, sampled every 5 ms."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self.highest = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def restart(self) -> None:
        """Reset the maximum to the current size."""
        self.highest = self._process.memory_info().rss

    @property
    def growth(self) -> float:
        """Growth of the maximum since the start, in MiB."""
        return (self.highest - self._before) / MIB

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.highest = max(self.highest, self._process.memory_info().rss)


class ByHundred(Quiet):
    """Records the highest growth for each hundred answers."""

    def __init__(self, peak: Peak) -> None:
        self.growths: list[float] = []
        self._peak, self._answered = peak, 0

    def advance(self, requests: int) -> None:
        self._answered += requests
        if requests and self._answered % 100 == 0:
            self.growths.append(self._peak.growth)
            self._peak.restart()


def measure(case: str) -> list[float]:
    """Memory growth in MiB for each hundred images, or for all."""
    way, number = CASES[case]
    lm = model(max_num_batched_tokens=2048)
    engine = Engine(lm.stream.engine.llm_engine, lm.tokenizer.decode)
    engine.lengths = [4] * (number + WINDOW)
    requests = questions(lm, number + WINDOW, (SIDE, SIDE))
    ours(lm, 1, requests[number:])  # allocate buffers that are kept
    with Peak() as peak:
        if way == "auto":
            lm_evals_own(lm, "auto").generate_until(requests[:number])
            return [peak.growth]
        lm.stream.progress = seen = ByHundred(peak)
        ours(lm, WINDOW, requests[:number])
    return seen.growths or [peak.growth]


def engine() -> None:
    found = {}
    for case in CASES:
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.feeding_memory", "engine", "--measure", case],
            env=environment(apart=False),
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        (line,) = (each for each in ended.stdout.splitlines() if each.startswith("measured: "))
        found[case] = json.loads(line.removeprefix("measured: "))
        print(f"{case}: {', '.join(f'{growth:.0f}' for growth in found[case])} MiB", flush=True)
    print(f"window / all at once: {found['window, 96'][0] / found['all at once, 96'][0]:.2f}")


def data_set(folder: Path, number: int, sides: tuple[int, int]) -> list[str]:
    """Write noise images and a task that asks about each; returns the settings to run it."""
    import datasets
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(1)
    pictures = []
    for _ in range(number):
        width, height = (int(side) for side in random.integers(sides[0], sides[1] + 1, 2))
        spots = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        stored = io.BytesIO()
        Image.fromarray(spots).resize((width, height)).save(stored, "PNG")
        pictures.append({"bytes": stored.getvalue(), "path": None})
    features = datasets.Features({"image": datasets.Image(), "number": datasets.Value("int64")})
    columns = {"image": pictures, "number": list(range(number))}
    (folder / "data").mkdir()
    made = datasets.Dataset.from_dict(columns, features=features)
    made.to_parquet(folder / "data" / "validation.parquet")
    (folder / "tasks").mkdir()
    (folder / "tasks" / "noise.yaml").write_text(TASK.format(data=folder / "data"))
    return [
        *["task.names=[noise]", f"task.include_path={folder / 'tasks'}", "task.data_dir=null"],
        *["verdict.require_baseline=false", "tracking=off"],
    ]


def run(number: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = data_set(folder, number, (56, 56))
        command = [sys.executable, "-m", "runner", f"output_dir={folder / 'out'}", *settings]
        variables = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(PROJECT)}
        with (folder / "printed").open("w") as printed:
            parent = subprocess.Popen(command, cwd=folder, env=variables, stdout=printed)
        curve(parent, folder / "out" / "events.jsonl", number)
        print((folder / "printed").read_text()[-600:])


def curve(parent: subprocess.Popen[bytes], events: Path, number: int) -> None:
    worker, shown, position = None, -1, 0
    print("| answered | parent, MiB | worker, MiB |\n|---|---|---|")
    while parent.poll() is None:
        time.sleep(0.2)
        if not events.exists():
            continue
        with events.open() as stream:
            stream.seek(position)
            lines = [line for line in stream.read().split("\n")[:-1] if line]
            position += sum(len(line.encode()) + 1 for line in lines)
        told: list[dict[str, Any]] = [json.loads(line) for line in lines]
        for event in told:
            if event["event"] == "worker_started":
                worker = psutil.Process(event["pid"])
        done = [event["done"] for event in told if event["event"] == "progress"]
        if worker is not None and done and done[-1] * 10 // number > shown:
            shown = done[-1] * 10 // number
            sizes = (psutil.Process(parent.pid).memory_info().rss, worker.memory_info().rss)
            print(f"| {done[-1]} | {sizes[0] / MIB:.0f} | {sizes[1] / MIB:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("engine", "run"))
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--measure", choices=CASES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(f"measured: {measure(given.measure)}")
    elif given.what == "engine":
        engine()
    else:
        run(given.questions)


if __name__ == "__main__":
    main()
