"""Measures report.html and compare.html of runs with very many samples.

    python -m benchmarks.sample_browser [--samples 20000] [--tokens 250 4000] [--images 2000]

For each mean length of an answer, two runs are written, whose answers differ in a fifth of the
questions. Texts are pieces of this project's documentation. Each page is made in a process of its
own. Memory is the highest resident size of the process minus that after its imports.
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

from runner.rundir import RunDirectory, read_json, write_atomic

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--tokens", type=int, nargs="+", default=[250, 4000])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--keep", type=Path, help="directory for the runs and pages")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        kind, first, second = given.one
        print(json.dumps((_report if kind == "report" else _compare)(Path(first), Path(second))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        for tokens in given.tokens:
            folder = (given.keep or Path(temporary)) / str(tokens)
            _measure(folder, given.samples, tokens, given.images)


def _measure(folder: Path, samples: int, tokens: int, images: int) -> None:
    from tests.many_samples import write_many

    first, second = folder / "first", folder / "second"
    if not first.exists():
        write_many(first, samples, tokens, images)
        write_many(second, samples, tokens, images, changed=0.2)
    size = RunDirectory(first).samples.stat().st_size / MIB
    print(f"{samples} samples of {tokens} tokens, samples.parquet {size:.0f} MiB", flush=True)
    for kind in ("report", "compare"):
        words = [sys.executable, "-m", "benchmarks.sample_browser", "--one", kind]
        ended = subprocess.run([*words, first, second], stdout=subprocess.PIPE, check=True)
        found = json.loads(ended.stdout.splitlines()[-1])
        print(
            f"  {kind}.html: {found['wall']:.1f} s ({found['cpu']:.1f} s of CPU time), "
            f"{found['memory']:.0f} MiB more memory, page {found['page']:.1f} MB",
            flush=True,
        )


def _report(first: Path, _: Path) -> dict[str, float]:
    import scipy.special  # noqa: F401

    from runner.config.verdict import VerdictConfig
    from runner.environment import collect
    from runner.outcome import Outcome
    from runner.plan import Plan
    from runner.platforms import PLATFORMS
    from runner.present import plots
    from runner.report.run_page import render
    from runner.verdict import judge

    run = RunDirectory(first)
    plan, outcome = read_json(run.plan, Plan), read_json(run.outcome, Outcome)
    environment = collect(PLATFORMS["cpu"])
    verdict = judge(outcome, plan.evaluations, VerdictConfig())
    plots.load()
    began = _now()
    write_atomic(run.report_html, render(run, plan, environment, outcome, verdict))
    return _since(began, run.report_html)


def _compare(first: Path, second: Path) -> dict[str, float]:
    from runner.compare.comparison import compare
    from runner.compare.comparison_page import write
    from runner.compare.sides import read_side

    output = first.parent / "compared"
    began = _now()
    write(output, compare(read_side("A", first), read_side("B", second), 0.02), "benchmark")
    return _since(began, output / "compare.html")


def _now() -> tuple[float, float, float]:
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401

    return time.monotonic(), time.process_time(), _peak()


def _since(began: tuple[float, float, float], page: Path) -> dict[str, float]:
    wall, cpu, memory = began
    return {
        "wall": time.monotonic() - wall,
        "cpu": time.process_time() - cpu,
        "memory": _peak() - memory,
        "page": page.stat().st_size / 1e6,
    }


def _peak() -> float:
    """The highest resident size of this process so far, in MiB.

    Unlike getrusage's, it does not begin with that of the process that started this one.
    """
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
