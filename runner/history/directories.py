"""Reads the runs below a directory, without their samples."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runner.channel.lines import ChannelError
from runner.channel.worker import EVENTS
from runner.environment import Environment
from runner.history.runs import Run, read_stored
from runner.outcome import Outcome
from runner.plan import PLACES, Plan
from runner.rundir import EARLIER, RunDirectory, read_json
from runner.tracking.metrics import metrics
from runner.tracking.records import Begun, stack_tags, task_tags
from runner.tracking.stored import StoredRun
from runner.variables import moving
from runner.verdict import Verdict

# Engine arguments that say where files and servers are.
ELSEWHERE = (*PLACES, "server")
# Attempts that a sweep repeated, and MLflow's copies of runs.
COPIES = (EARLIER, "mlruns", "mlartifacts")
NOT_SETTINGS = ("task", "baselines", "baseline_limit", "origins")


def read_directories(roots: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs below the directories, and why others can't be read."""
    runs, problems = [], []
    for root in roots:
        for directory in _found(root):
            try:
                runs.append(_read(RunDirectory(directory)))
            except (OSError, ValueError) as error:  # of another version, or cut short
                problems.append(f"{directory}: {' '.join(str(error).split())[:120]}")
    return runs, problems


def _found(root: Path) -> Iterator[Path]:
    """Run directories with a verdict; what is inside of one belongs to it."""
    for place, folders, files in os.walk(root):
        if "verdict.json" in files and "plan.json" in files:
            yield Path(place)
            folders.clear()
        else:
            folders[:] = [each for each in folders if each not in COPIES]


def _read(files: RunDirectory) -> Run:
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
    settings = {name: str(value) for name, value in _settings(plan).items()}
    return read_stored(StoredRun("", _started_ms(files), found, settings | names, tags))


def _started_ms(files: RunDirectory) -> int:
    """When the run started; the time of a file changes when the directory is copied."""
    if files.tracking.exists():
        begun: Begun = read_json(files.tracking, Begun)
        return begun.started_ms
    with suppress(OSError, ChannelError), files.events.open("rb") as lines:
        return int(1000 * EVENTS.decode(lines.readline()).time)
    return int(1000 * files.config.stat().st_mtime)


def _settings(plan: Plan) -> dict[str, Any]:
    """What the fingerprints cover, apart from versions and the content of files."""
    arguments = {name: each for name, each in plan.engine_args.items() if name not in ELSEWHERE}
    asked: dict[str, Any] = {}
    for evaluation in plan.evaluations:
        for name, value in vars(evaluation).items():
            if name not in NOT_SETTINGS:
                key = name if len(plan.evaluations) == 1 else f"{evaluation.task}.{name}"
                asked[key] = value
    return {
        "platform": plan.platform,
        "backend": plan.backend,
        "runtime": plan.runtime,
        "seed": plan.seed,
        "system_instruction": plan.system_instruction,
        **_flat(arguments),
        **{f"env.{name}": value for name, value in moving(plan.environment).items()},
        **_flat(asked),
    }


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value
    return found
