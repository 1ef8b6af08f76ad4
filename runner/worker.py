"""The worker process that runs the engine: `python -m runner.worker`, started by the supervisor.

Commands arrive as JSON lines on standard input. Events are written as JSON lines to the file
descriptor given as the first argument. Standard output and error are the engine's log. The second
argument is a directory for temporary files, which the supervisor removes. If standard input ends
without an exit command, the supervisor is gone: the worker then removes the directory itself and
kills its process group, including the engine.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import math
import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.digest import last_changes
from runner.errors import UserError
from runner.inputs.paths import local_paths
from runner.outcome import Outcome, State, TaskOutcome
from runner.plan import JournalPlan, Plan
from runner.rundir import RunDirectory, read_json, write_json
from runner.runtimes import runtime_of
from runner.supervision.processes import group_members, shared_memory_of

HEARTBEAT_S = 1.0
PROGRESS_S = 0.1
# Python's default thresholds scan all objects of torch, vLLM and the requests again and again
# (docs/performance.md).
COLLECT = (50_000, 20, 100)


@dataclass
class Reporter:
    """Sends events to the supervisor and tracks the progress of the current task."""

    descriptor: int
    names: list[str] = field(default_factory=list)
    task: str = ""
    done: int = 0
    total: int = 0
    steps: int = 0
    beaten: float = -math.inf
    told: int = 0
    told_at: float = -math.inf

    def send(self, event: str, **content: Any) -> None:
        line = json.dumps({"event": event, "time": time.time(), **content}) + "\n"
        os.write(self.descriptor, line.encode())

    def enter(self, task: str) -> None:
        self.task = task

    def begin(self, kind: str, total: int) -> None:
        self.done, self.total = 0, total
        self._progress(kind=kind)

    def advance(self, requests: int) -> None:
        """Count answered requests, and report them at most ten times a second and at the end.

        An event for each answer would cost 0.1 ms.
        """
        self.done += requests
        if not requests or self.done >= self.total or time.monotonic() - self.told_at >= PROGRESS_S:
            self._progress()

    def beat(self, seconds_left: Callable[[], float | None] | None = None) -> None:
        """Count an engine step, and report the steps once a second."""
        self.steps += 1
        now = time.monotonic()
        if self.told < self.done and now - self.told_at >= PROGRESS_S:
            self._progress()
        if now - self.beaten >= HEARTBEAT_S:
            self.beaten = now
            estimate = {} if seconds_left is None else {"seconds_left": seconds_left()}
            self.send("heartbeat", steps=self.steps, **estimate)

    def end(self) -> None:
        self.send("requests_finished", task=self.task, steps=self.steps)

    def _progress(self, **content: Any) -> None:
        self.told, self.told_at = self.done, time.monotonic()
        self.send(
            "progress",
            task=self.task,
            number=self.names.index(self.task) + 1,
            tasks=len(self.names),
            done=self.done,
            total=self.total,
            **content,
        )


@dataclass
class Held:
    """State that is kept for the next run.

    The supervisor only sends runs that use the same engine.
    """

    scratch: str
    lm: Any = None
    engine_started: bool = False
    journal: Any = None
    managers: Any = field(default_factory=dict)
    # Seconds spent before the first run arrived; they count towards that run.
    early: dict[str, float] = field(default_factory=dict)

    def close_journal(self, completed: bool) -> None:
        """Close the run's journal, if there is one."""
        journal, self.journal = self.journal, None
        if journal is not None:
            journal.close(completed=completed)


def main() -> None:
    """Serve runs until told to exit."""
    gc.set_threshold(*COLLECT)
    gc.disable()
    held = Held(scratch=sys.argv[2])
    reporter = Reporter(int(sys.argv[1]))
    commands: queue.Queue[dict[str, Any] | None] = queue.Queue()
    signal.signal(signal.SIGTERM, _exit_orderly)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_listen, args=(commands, held.scratch), daemon=True).start()
    reporter.send("worker_started", pid=os.getpid())
    while (command := commands.get()) is not None:
        # Until the supervisor confirms that the run is recorded, its answers stay for
        # another attempt.
        held.close_journal(completed="recorded" in command)
        if "import" in command:
            reporter.send("stage", stage="importing libraries")
            clock = _Clock(held.early)
            _import(command["import"])
            clock.lap("start_engine_s")
        if "log" in command:
            _write_log_to(Path(command["log"]), Path(command["early_log"]))
        if "run_directory" not in command:
            continue
        run = RunDirectory(Path(command["run_directory"]))
        outcome = _run(run, held, reporter, command.get("check"))
        write_json(run.outcome, outcome)
        if outcome.state is not State.COMPLETED:
            held.close_journal(completed=False)
        reporter.send("outcome", state=outcome.state.value)
        if outcome.state is State.INTERRUPTED:
            raise SystemExit(128 + signal.SIGTERM)
    held.close_journal(completed=False)
    _leave()


def _import(runtime: str) -> None:
    """Import what a run will need.

    If an import fails here, it fails again in the run, which reports it.
    """
    with suppress(Exception):
        for name in ("runner.lm.datasets", "runner.lm.evaluate", runtime_of(runtime).models):
            importlib.import_module(name)


def _write_log_to(log: Path, early: Path) -> None:
    """Redirect standard output and error to `log`, starting with the content of the early log."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("ab") as stream:
        stream.write(early.read_bytes())
        stream.flush()
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    early.unlink()


def _leave() -> None:
    """Exit like Python, including vLLM's exit handlers, but without freeing memory.

    Freeing it object by object took two of a small run's seventeen seconds, and the two garbage
    collections in vLLM's exit handlers another one.
    """
    gc.disable()
    gc.collect = _collect_nothing
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _collect_nothing(generation: int = 2) -> int:
    return 0


def _listen(commands: queue.Queue[dict[str, Any] | None], scratch: str) -> None:
    for line in sys.stdin:
        command = json.loads(line)
        commands.put(None if command.get("exit") else command)
        if command.get("exit"):
            return
    for segment in shared_memory_of(group_members(os.getpgrp())):
        segment.unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


class _Stopped(SystemExit):
    """Raised for the supervisor's SIGTERM. Any other SystemExit comes from a library."""


def _exit_orderly(number: int, frame: Any) -> None:
    raise _Stopped(128 + number)


def _run(
    run: RunDirectory, held: Held, reporter: Reporter, check: dict[str, Any] | None
) -> Outcome:
    """Perform a run. Any error becomes an Outcome that keeps what was measured before it."""
    finished: list[TaskOutcome] = []
    engine: dict[str, Any] = {}
    timings, held.early = held.early, {}
    state, reason = State.COMPLETED, ""
    gc.disable()  # imported modules and built requests stay in memory
    try:
        if check is None:
            _evaluate_all(run, held, reporter, finished, engine, timings)
        else:
            _check(run, held, reporter, timings, **check)
    except UserError as error:
        state, reason = State.REFUSED, str(error)
    except _Stopped:
        state, reason = State.INTERRUPTED, "stopped by a signal"
    except BaseException as error:
        traceback.print_exc()
        state, reason = State.ERROR, f"{type(error).__name__}: {error}"
    gc.unfreeze()
    gc.enable()
    if not engine:  # else these are the previous run's
        return Outcome(state, reason, tuple(finished), engine, timings)
    return Outcome(
        state,
        reason,
        tuple(finished),
        engine,
        timings,
        feeding=held.lm.fed(),
        served=held.lm.served(),
    )


def _evaluate_all(
    run: RunDirectory,
    held: Held,
    reporter: Reporter,
    finished: list[TaskOutcome],
    engine: dict[str, Any],
    timings: dict[str, float],
) -> None:
    plan: Plan = read_json(run.plan, Plan)
    reporter.send("stage", stage="loading tasks")
    clock = _Clock(timings)
    from runner.lm.datasets import local_datasets

    with local_datasets(plan.data_dir, plan.data_source, held.scratch):
        manager, loaded = _load_tasks(plan, held, reporter, clock)
        _build_requests(plan, held, reporter, clock, manager, loaded)
        gc.freeze()  # the requests stay until the run is over
        gc.enable()
        from runner.lm.evaluate import evaluate
        from runner.lm.images import Album
        from runner.lm.sample_table import sample_table, write_samples

        lm = held.lm
        if not held.engine_started:
            reporter.send("stage", stage="starting engine")
            lm.start()
            held.engine_started = True
        if plan.journal is not None:
            held.journal = _journal(plan, run.path, plan.journal, reporter)
        lm.begin(plan.window, held.journal)
        clock.lap("start_engine_s")
        engine.update(lm.resolved())
        reporter.send("engine_started", engine=engine)
        tables: list[Any] = []
        album = Album()

        def finish(outcome: TaskOutcome, task_rows: list[Any]) -> None:
            tables.append(sample_table(task_rows))
            finished.append(outcome)
            write_samples(run.samples, tables)
            album.write(run.images)
            write_json(run.outcome, Outcome(State.ERROR, "unfinished", tuple(finished), engine))
            reporter.send("task_finished", task=outcome.task, seconds=outcome.seconds)

        reporter.names = [task.evaluation.task for task in loaded]
        evaluate(lm, manager, loaded, plan, album, finish)
        clock.lap("evaluate_s")


def _journal(plan: Plan, run: Path, where: JournalPlan, reporter: Reporter) -> Any:
    from runner.lm.journal import Journal

    def warn(text: str) -> None:
        reporter.send("warning", text=text)

    # Look up the files' last changes only after the engine has read them.
    files = [Path(path).expanduser() for path in local_paths(plan.engine_args)]
    changed = last_changes(*files)[:8]
    directory = Path(f"{where.directory}-{changed}" if changed else where.directory)
    return Journal(directory, run, where.max_gib * 2**30, warn)


def _check(
    run: RunDirectory, held: Held, reporter: Reporter, timings: dict[str, float], weights: bool
) -> None:
    """Do what a run does before its engine starts, with local files only; nothing is fetched.

    `weights` says whether the model is on this machine.
    """
    plan: Plan = read_json(run.plan, Plan)
    reporter.send("stage", stage="loading tasks")
    clock = _Clock(timings)
    from runner.lm.datasets import local_datasets

    absent: list[str] = []
    with local_datasets(plan.data_dir, plan.data_source, held.scratch, fetch=False):
        manager, loaded = _load_tasks(plan, held, reporter, clock, absent)
        for problem in absent:
            reporter.send("unchecked", text=problem)
        if not weights:
            text = "engine arguments, chat template and prompts: the weights are not here"
            reporter.send("unchecked", text=text)
            return
        _build_requests(plan, held, reporter, clock, manager, loaded)
    requests = {
        task.evaluation.task: sum(len(leaf.instances) for leaf in task.leaves.values())
        for task in loaded
    }
    reporter.send("built", requests=requests)


def _load_tasks(
    plan: Plan, held: Held, reporter: Reporter, clock: _Clock, absent: list[str] | None = None
) -> tuple[Any, list[Any]]:
    """lm-eval's task manager and the loaded tasks.

    Tasks whose data would have to be fetched are left out and added to `absent`, if that is given.

    Raises:
        UserError: if a task cannot be loaded.
    """
    from runner.lm.tasks import load_tasks, taken_twice, task_manager

    names = [each.task for each in plan.evaluations]
    manager = task_manager(plan.include_path, names, held.managers, plan.task_files)
    loaded = load_tasks(plan, manager, absent)
    for warning in taken_twice(loaded, manager):
        reporter.send("warning", text=warning)
    clock.lap("load_tasks_s")
    return manager, loaded


def _build_requests(
    plan: Plan, held: Held, reporter: Reporter, clock: _Clock, manager: Any, loaded: list[Any]
) -> None:
    """Create the model in `held`, without its engine, and build every task's requests.

    The requests stay with the tasks (`LoadedTask.leaves`).

    Raises:
        UserError: if engine arguments or requests are invalid.
    """
    if held.lm is None:
        reporter.send("stage", stage="checking engine arguments")
        models = importlib.import_module(runtime_of(plan.runtime).models)
        models.check_engine_args(plan)
        held.lm = models.MODEL_CLASSES[plan.backend](**plan.engine_args, progress=reporter)
    clock.lap("start_engine_s")
    reporter.send("stage", stage="building requests")
    from runner.lm.building import build_requests

    build_requests(held.lm, manager, loaded, plan)
    clock.lap("load_tasks_s")


class _Clock:
    """Seconds between laps, summed by name, on a monotonic clock."""

    def __init__(self, timings: dict[str, float]) -> None:
        self._timings = timings
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self._timings[name] = self._timings.get(name, 0.0) + now - self._last
        self._last = now


if __name__ == "__main__":
    main()
