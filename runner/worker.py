"""The worker process that runs the engine: `python -m runner.worker`, started by the supervisor.

Commands arrive on standard input, and events leave through the file descriptor given as the first
argument (`runner.channel.worker`). Standard output and error are the engine's log. The second
argument is a directory for temporary files, which the supervisor removes. If standard input ends
without an exit command, the supervisor is gone: the worker then removes the directory itself and
kills its process group, including the engine.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner import language
from runner.channel.lines import Inbox, Outbox
from runner.channel.worker import (
    COMMANDS,
    EVENTS,
    PROTOCOL,
    Check,
    Command,
    Decision,
    EngineStarted,
    Exit,
    Import,
    LogTo,
    Looked,
    Recorded,
    RequestsBuilt,
    Run,
    RunEnded,
    Stage,
    TaskFinished,
    Unchecked,
    WorkerStarted,
)
from runner.errors import UserError, cause
from runner.lm.clock import Clock
from runner.lm.reporter import Reporter
from runner.lm.speculation import with_acceptance
from runner.outcome import Outcome, State, TaskOutcome
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json, write_json
from runner.runtimes import runtime_of
from runner.supervision.worker_exit import Stopped, end_group, leave, stop

# Python's default thresholds scan all objects of torch, vLLM and the requests again and again
# (docs/performance.md).
COLLECT = (50_000, 20, 100)


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

    def close_journal(self, completed: bool, stopped: bool = False) -> None:
        """Close the run's journal, if there is one."""
        journal, self.journal = self.journal, None
        if journal is not None:
            journal.close(completed=completed, stopped=stopped)


def main() -> None:
    """Serve runs until told to exit."""
    # The reports translate what it sends, and its interpreter may lack Babel.
    language.use(language.ENGLISH)
    gc.set_threshold(*COLLECT)
    gc.disable()
    held = Held(scratch=sys.argv[2])
    reporter = Reporter(Outbox(os.fdopen(int(sys.argv[1]), "wb"), EVENTS))
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    commands = Inbox(_commands(held.scratch))
    reporter.send(WorkerStarted(os.getpid(), PROTOCOL, sys.executable))
    while True:
        command = commands.get()
        # Until the supervisor confirms that the run is recorded, a retry needs its answers.
        recorded = isinstance(command, Recorded)
        held.close_journal(recorded, stopped=isinstance(command, Recorded) and command.stopped)
        match command:
            case Import(runtime):
                reporter.stage(Stage.IMPORTING_LIBRARIES)
                clock = Clock(held.early)
                _import(runtime)
                clock.lap("start_engine_s")
            case LogTo(log, early):
                _write_log_to(log, early)
            case Run() | Check():
                _perform(command, held, reporter, commands)
            case Exit() | None:
                leave()


def _commands(scratch: str) -> Iterator[Command]:
    """Commands up to the exit command; if they end without one, everything ends here."""
    for command in COMMANDS.read(os.fdopen(0, "rb", closefd=False)):
        yield command
        if isinstance(command, Exit):
            return
    end_group(scratch)


def _perform(
    command: Run | Check, held: Held, reporter: Reporter, commands: Inbox[Command]
) -> None:
    """Perform the run or check, and leave its outcome in its directory."""
    run = RunDirectory(command.directory)
    outcome = _run(command, run, held, reporter, commands)
    write_json(run.outcome, outcome)
    if outcome.state is not State.COMPLETED:
        held.close_journal(completed=False)
    reporter.send(RunEnded(outcome.state))
    if outcome.state is State.INTERRUPTED:
        raise SystemExit(128 + signal.SIGTERM)


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


def _run(
    command: Run | Check,
    run: RunDirectory,
    held: Held,
    reporter: Reporter,
    commands: Inbox[Command],
) -> Outcome:
    """Perform a run. Any error becomes an Outcome that keeps what was measured before it."""
    finished: list[TaskOutcome] = []
    engine: dict[str, Any] = {}
    timings, held.early = held.early, {}
    state, reason = State.COMPLETED, ""
    gc.disable()  # imported modules and built requests stay in memory
    try:
        if isinstance(command, Check):
            _check(run, held, reporter, timings, command.weights)
        else:
            _evaluate_all(run, held, reporter, commands, finished, engine, timings)
    except UserError as error:
        state, reason = State.REFUSED, str(error)
    except Stopped:
        state, reason = State.INTERRUPTED, "stopped by a signal"
    except BaseException as error:
        traceback.print_exc()
        state, reason = State.ERROR, f"{type(error).__name__}: {error}"
    gc.unfreeze()
    gc.enable()
    if not engine:  # else these are the previous run's
        return Outcome(state, reason, tuple(finished), engine, timings)
    served = held.lm.served()
    speculation = held.lm.speculation()
    return Outcome(
        state,
        reason,
        with_acceptance(finished, served, speculation),
        engine,
        timings,
        feeding=held.lm.fed(),
        served=served,
        speculation=speculation,
    )


def _evaluate_all(
    run: RunDirectory,
    held: Held,
    reporter: Reporter,
    commands: Inbox[Command],
    finished: list[TaskOutcome],
    engine: dict[str, Any],
    timings: dict[str, float],
) -> None:
    plan: Plan = read_json(run.plan, Plan)
    reporter.stage(Stage.LOADING_TASKS)
    clock = Clock(timings)
    from runner.lm.datasets import local_datasets

    with local_datasets(plan.data_dir, plan.data_source, held.scratch):
        manager, loaded = _load_tasks(plan, held, reporter, clock)
        _create_model(plan, held, reporter, clock)
        if not held.engine_started:
            held.lm.launch()
        _build_requests(plan, held, reporter, clock, manager, loaded)
        gc.freeze()  # the requests stay until the run is over
        gc.enable()
        from runner.lm.evaluate import evaluate
        from runner.lm.images import Album
        from runner.lm.journal import open_journal
        from runner.lm.likeliest_table import likeliest_table, write_likeliest
        from runner.lm.sample_table import sample_table, write_samples

        lm = held.lm
        if not held.engine_started:
            reporter.stage(Stage.STARTING_ENGINE)
            lm.start()
            held.engine_started = True
        if plan.journal is not None:
            held.journal = open_journal(plan, plan.journal, run.path, reporter.warn)
        lm.begin(plan.window, held.journal)
        if plan.trace is not None:
            lm.begin_trace(plan.trace)
        clock.lap("start_engine_s")
        engine.update(lm.resolved())
        reporter.send(EngineStarted(engine))
        tables: list[Any] = []
        likeliest: list[Any] = []
        album = Album()

        def write(*more: Any) -> None:
            write_samples(run.samples, [*tables, *more])
            album.write(run.images)

        def finish(outcome: TaskOutcome, task_rows: list[Any]) -> None:
            tables.append(sample_table(task_rows))
            finished.append(outcome)
            write()
            write_json(run.outcome, Outcome(State.ERROR, "unfinished", tuple(finished), engine))
            if plan.distributions:
                likeliest.append(likeliest_table(task_rows))
                try:
                    write_likeliest(run.likeliest, likeliest)
                except OSError as error:  # the results are on disk
                    reporter.warn(f"{run.likeliest} was not written: {cause(error)}")
            reporter.send(TaskFinished(outcome.task, outcome.seconds))

        def enough(outcome: TaskOutcome, task_rows: list[Any]) -> bool:
            write(sample_table(task_rows))
            found = (*finished, outcome)
            served = lm.served()  # it may say why the verdict is doubtful
            unfinished = Outcome(State.ERROR, "unfinished", found, engine, served=served)
            write_json(run.outcome, unfinished)
            look, whole = outcome.look, outcome.whole or 0
            reporter.send(Looked(outcome.task, look.number, look.of, outcome.evaluated, whole))
            decision = commands.get()
            if not isinstance(decision, Decision):  # the supervisor is gone, or stops this run
                raise Stopped
            return decision.stop

        reporter.names = [task.evaluation.task for task in loaded]
        evaluate(lm, manager, loaded, plan, album, finish, enough)
        if plan.trace is not None:
            lm.end_trace(run.sketches)
        clock.lap("evaluate_s")


def _check(
    run: RunDirectory, held: Held, reporter: Reporter, timings: dict[str, float], weights: bool
) -> None:
    """Do what a run does before its engine starts, with local files only; nothing is fetched.

    `weights` says whether the model is on this machine.
    """
    plan: Plan = read_json(run.plan, Plan)
    reporter.stage(Stage.LOADING_TASKS)
    clock = Clock(timings)
    from runner.lm.datasets import local_datasets

    absent: list[str] = []
    with local_datasets(plan.data_dir, plan.data_source, held.scratch, fetch=False):
        manager, loaded = _load_tasks(plan, held, reporter, clock, absent)
        for problem in absent:
            reporter.send(Unchecked(problem))
        if not weights:
            text = "engine arguments, chat template and prompts: the weights are not here"
            reporter.send(Unchecked(text))
            return
        _create_model(plan, held, reporter, clock)
        _build_requests(plan, held, reporter, clock, manager, loaded)
    requests = {
        task.evaluation.task: sum(len(leaf.instances) for leaf in task.leaves.values())
        for task in loaded
    }
    reporter.send(RequestsBuilt(requests))


def _load_tasks(
    plan: Plan, held: Held, reporter: Reporter, clock: Clock, absent: list[str] | None = None
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
        reporter.warn(warning)
    clock.lap("load_tasks_s")
    return manager, loaded


def _create_model(plan: Plan, held: Held, reporter: Reporter, clock: Clock) -> None:
    """Create the model in `held`, without its engine, unless an earlier run has.

    Raises:
        UserError: if engine arguments are invalid.
    """
    if held.lm is None:
        reporter.stage(Stage.CHECKING_ARGUMENTS)
        models = importlib.import_module(runtime_of(plan.runtime).models)
        models.check_engine_args(plan)
        held.lm = models.MODEL_CLASSES[plan.backend](**plan.engine_args, progress=reporter)
    clock.lap("start_engine_s")


def _build_requests(
    plan: Plan, held: Held, reporter: Reporter, clock: Clock, manager: Any, loaded: list[Any]
) -> None:
    """Build every task's requests, which stay with the tasks (`LoadedTask.leaves`).

    Raises:
        UserError: if requests are invalid.
    """
    reporter.stage(Stage.BUILDING_REQUESTS)
    from runner.lm.building import build_requests

    build_requests(held.lm, manager, loaded, plan)
    clock.lap("load_tasks_s")


if __name__ == "__main__":
    main()
