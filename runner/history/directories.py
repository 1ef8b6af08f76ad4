"""Reads the runs below a directory, without their samples."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from omegaconf import OmegaConf

from runner.channel.lines import ChannelError
from runner.channel.worker import EVENTS
from runner.environment import Environment
from runner.history.runs import PROBES, Run, read_stored
from runner.outcome import Outcome
from runner.plan import Plan
from runner.rundir import EARLIER, RunDirectory, read_json
from runner.tracking.metrics import metrics
from runner.tracking.records import Begun, stack_tags, task_tags
from runner.tracking.settings import AXIS, axes, settings
from runner.tracking.stored import StoredRun
from runner.verdict import Verdict

# The name of a point in config.yaml.
POINT = re.compile(r"^  point: (?!null$)", re.MULTILINE)
# Attempts that a sweep repeated, MLflow's copies of runs, and the runs of a search.
ASIDE = (EARLIER, "mlruns", "mlartifacts", PROBES)


def read_directories(roots: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs below the directories, each once, and why others can't be read."""
    runs: dict[str, Run] = {}
    problems = []
    for root in roots:
        for directory in _found(root):
            files = RunDirectory(directory)
            try:
                begun = read_json(files.tracking, Begun) if files.tracking.exists() else None
                # A copy of a directory is the same run.
                key = begun.key if begun is not None else str(directory.resolve())
                if key not in runs:
                    runs[key] = _read(files, begun)
            except (OSError, ValueError) as error:  # of another version, or cut short
                problems.append(f"{directory}: {' '.join(str(error).split())[:120]}")
    return list(runs.values()), problems


def _found(root: Path) -> Iterator[Path]:
    """Run directories with a verdict; what is inside of one belongs to it."""
    for place, folders, files in os.walk(root):
        if "verdict.json" in files and "plan.json" in files:
            yield Path(place)
            folders.clear()
        else:
            folders[:] = [each for each in folders if each not in ASIDE]


def _read(files: RunDirectory, begun: Begun | None) -> Run:
    verdict: Verdict = read_json(files.verdict, Verdict)
    plan: Plan = read_json(files.plan, Plan)
    outcome: Outcome | None = read_json(files.outcome, Outcome) if files.outcome.exists() else None
    tags = {"run_directory": str(files.path.resolve()), "verdict": verdict.status.value}
    if files.environment.exists():
        tags |= stack_tags(plan, read_json(files.environment, Environment))
    if verdict.reference is not None:
        tags["reference_run"] = ", ".join(each.name for each in verdict.reference.runs)
    found: dict[str, float] = {}
    if outcome is not None:
        tags |= task_tags(outcome, verdict)
        found = metrics(outcome, verdict)
    tasks = "+".join(each.task for each in plan.evaluations)
    names = {"model": plan.model, "task": tasks}
    swept = _kept_axes(begun) if begun is not None else axes(plan, _point(files))
    known = settings(plan, swept)
    started = begun.started_ms if begun is not None else _started_ms(files)
    return read_stored(StoredRun("", started, found, known | names, tags))


def _started_ms(files: RunDirectory) -> int:
    """When a run that was not tracked started; a file's own time is that of its copy."""
    with suppress(OSError, ChannelError), files.events.open("rb") as lines:
        return int(1000 * EVENTS.decode(lines.readline()).time)
    return int(1000 * files.config.stat().st_mtime)


def _kept_axes(begun: Begun) -> dict[str, str]:
    return {name: value for name, value in begun.params.items() if name.startswith(AXIS)}


def _point(files: RunDirectory) -> str:
    """The run's name in its sweep; empty for any other run."""
    text = files.config.read_text(encoding="utf-8")
    # Of most runs it is null, and parsing takes 20 ms.
    if POINT.search(text) is None:
        return ""
    return str(OmegaConf.select(OmegaConf.create(text), "sweep.point") or "")
