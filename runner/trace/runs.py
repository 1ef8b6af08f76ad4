"""Runs the configurations of a trace: each replays the same answers and leaves sketches."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from runner import run
from runner.config import recorded
from runner.config.recorded import ABSENT, Recorded
from runner.errors import UserError
from runner.outcome import Outcome, State
from runner.plan import TRACE_VERSION, Plan, TracePlan
from runner.run import Checked
from runner.rundir import RunDirectory, read_json
from runner.supervision.supervisor import Supervisor
from runner.sweep import resume
from runner.tracking.courier import Courier

# Mixed into vLLM's workers by its class path.
EXTENSION = "runner.runtimes.vllm.tracing.Tracing"
EXTRA = "engine.extra.worker_extension_cls"
TRACED = TracePlan(version=TRACE_VERSION)


@dataclass(frozen=True)
class Side:
    """A configuration to trace: the recorded one of a run, with changes; `name` is the user's."""

    name: str
    recorded: Recorded
    changes: Mapping[str, Any] = field(default_factory=dict)

    def value(self, key: str) -> Any:
        """The value of a dotted key with the changes."""
        return self.changes.get(key, self.recorded.value(key))


@dataclass(frozen=True)
class Replayed:
    """The answers that are replayed: those of `directory` to `limit` questions of each task.

    With `questions`, only those: documents by task, or by subtask of a group.
    """

    directory: Path
    tasks: tuple[str, ...]
    limit: Any
    questions: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Settled:
    """The changes that make a configuration traceable, and a sentence for each that matters."""

    changes: dict[str, Any]
    notes: tuple[str, ...]


def replayed(
    directory: Path, number: int, questions: Mapping[str, Sequence[int]] | None = None
) -> Replayed:
    """What to replay of a run: about `number` answers in all, one of each subtask at least.

    With `questions`, these documents instead, by task (of a group: by subtask).

    Raises:
        UserError: if it is no completed run.
    """
    files = RunDirectory(directory)
    if not files.plan.is_file() or not files.outcome.is_file():
        raise UserError(f"{directory}: no run; give the directory of a completed run")
    outcome: Outcome = read_json(files.outcome, Outcome)
    if outcome.state is not State.COMPLETED or not outcome.tasks:
        raise UserError(f"{directory}: the run did not complete; give a completed run")
    tasks = tuple(task.task for task in outcome.tasks)
    if questions:
        limit = recorded.read(directory).value("task.limit")
        chosen = {name: list(documents) for name, documents in questions.items()}
        return Replayed(directory, tasks, None if limit is ABSENT else limit, chosen)
    leaves = [
        len({metric.task for metric in task.metrics} - {task.task}) or 1 for task in outcome.tasks
    ]
    least = min(task.evaluated // parts for task, parts in zip(outcome.tasks, leaves, strict=True))
    return Replayed(directory, tasks, max(1, min(number // sum(leaves), least)))


def settled(side: Side, what: Replayed, directory: Path, graph: bool = False) -> Settled:
    """What to change so that a configuration replays the answers; without graphs unless `graph`.

    Raises:
        UserError: for an engine that can't be traced.
    """
    runtime = side.value("engine.runtime")
    changes: dict[str, Any] = {
        **side.changes,
        "output_dir": str(directory),
        "preflight_only": False,
        "task.names": list(what.tasks),
        "task.limit": what.limit,
        "task.samples": 1,
        "tracking.enabled": False,
        "journal.enabled": False,
        "journal.continues": None,
        "verdict": {
            "rule": "replay",
            "reference": str(what.directory),
            "replay": {"noise": None, "questions": what.questions},
            "allow_reference": True,
        },
    }
    notes = []
    if runtime == "endpoint":
        raise UserError(
            f"{side.name}: a server that is already running can't be traced, because its modules "
            "are out of reach; trace the same model with engine=served or an engine of this machine"
        )
    if runtime == "server":
        changes |= {"engine.runtime": "vllm", "parallelism.dp": 1}
        notes.append(f"{side.name} is served; the same engine is traced without its server.")
    if runtime != "transformers":
        known = side.value(EXTRA)
        if known not in (ABSENT, None, "", EXTENSION):
            raise UserError(
                f"{side.name}: {EXTRA}={known} is set, and a trace needs it; remove it to trace"
            )
        changes[EXTRA] = EXTENSION
        if in_graph_mode(side) and not graph:
            changes["engine.enforce_eager"] = True
            notes.append(
                f"{side.name} runs in graph mode, which hides its modules: they are traced in "
                "eager mode."
            )
        if side.value("engine.extra.speculative_config") not in (ABSENT, None):
            changes["engine.extra.speculative_config"] = ABSENT
            notes.append(f"{side.name} drafts tokens; it is traced without speculative decoding.")
    return Settled(changes, tuple(notes))


def in_graph_mode(side: Side) -> bool:
    """Whether a configuration runs with graphs, where hooks see only what is outside of them."""
    return side.value("engine.runtime") in ("vllm", "server") and not side.value(
        "engine.enforce_eager"
    )


def other_batches(side: Side) -> dict[str, Any]:
    """The change that gives a configuration other batches: one request at a time, else eight."""
    runtime = side.value("engine.runtime")
    batch = side.value("task.batch_size")
    if runtime == "transformers" or batch not in (ABSENT, None, "auto"):
        return {"task.batch_size": "8" if str(batch) == "1" else "1"}
    return {"engine.window": 8 if side.value("engine.window") == 1 else 1}


class Runs:
    """Performs traced runs; those that need the same engine share one. A context manager."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._courier, self._engine = Courier(), Supervisor()

    def __enter__(self) -> Runs:
        self._courier.__enter__()
        self._engine.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        try:
            self._engine.__exit__(*exception)
        finally:
            self._courier.__exit__(*exception)

    def trace(
        self, side: Side, changes: Mapping[str, Any], title: str, what: TracePlan = TRACED
    ) -> Plan:
        """Replay with a configuration, unless its directory has that trace already.

        Returns the run's plan; what was recorded is in its directory.

        Raises:
            UserError: if the configuration is rejected, or the run fails.
        """
        config, composed = recorded.again(side.recorded, changes)
        files = RunDirectory(Path(config.output_dir))
        _refuse_other(files)
        try:
            checked = run.check(config, composed, self._courier, _silent())
        except UserError as error:
            raise UserError(*(f"{side.name}: {line}" for line in error.problems)) from error
        checked = replace(checked, plan=replace(checked.plan, trace=what))
        if _there(files, checked):
            self._out.print(f"{title}: already traced in {files.path}")
        else:
            self._out.print(f"{title} …")
            shutil.rmtree(files.path, ignore_errors=True)
            self._perform(checked, files, side)
        plan: Plan = read_json(files.plan, Plan)
        return plan

    def _perform(self, checked: Checked, files: RunDirectory, side: Side) -> None:
        run.perform(checked, files.path, self._engine, self._courier, _silent(), brief=True)
        outcome: Outcome = read_json(files.outcome, Outcome)
        if outcome.state is State.INTERRUPTED:
            raise KeyboardInterrupt
        if outcome.state is not State.COMPLETED:
            raise UserError(
                f"{side.name}: the traced run ended with {outcome.state.value}: {outcome.reason} "
                f"(log: {files.engine_log})"
            )


def _silent() -> Console:
    return Console(file=io.StringIO())


def _refuse_other(files: RunDirectory) -> None:
    """Refuse a directory that has anything but a trace, which may be replaced.

    Raises:
        UserError: if it has.
    """
    if files.path.exists() and any(files.path.iterdir()) and _planned(files) is None:
        raise UserError(
            f"--output-dir: {files.path} has something other than a trace; choose another directory"
        )


def _there(files: RunDirectory, checked: Checked) -> bool:
    """Whether a directory has this trace: of the same engine, weights, software and answers."""
    return (
        _planned(files) == checked.plan.trace
        and any(files.sketches.glob("rank*.npz"))
        and resume.status_of(files.path, checked) is not None
    )


def _planned(files: RunDirectory) -> TracePlan | None:
    try:
        plan: Plan = read_json(files.plan, Plan)
    except (OSError, ValueError):
        return None
    return plan.trace
