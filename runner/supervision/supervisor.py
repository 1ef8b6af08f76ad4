"""Own the worker process: start it, follow its events, and clean up after it."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from runner import secrecy
from runner.channel.worker import EVENTS, Event, Looked, Retry, Waiting
from runner.config.schema import LimitsConfig
from runner.errors import UserError
from runner.interpreters import interpreter_of
from runner.outcome import Outcome, State
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json, write_json
from runner.supervision import failures
from runner.supervision.failures import Failure
from runner.supervision.interruption import Interrupted, deferring, interruptible
from runner.supervision.limits import Watch
from runner.supervision.vacancy import wait_for_memory
from runner.supervision.worker_process import Enough, Worker, worker_environment

LOG_TAIL_LINES = 20
# What nanobind's modules (triton's) say of themselves when Python ends.
LEAKS = re.compile(r"nanobind: | - leaked | - \.\.\. skipped remainder|See https://nanobind\.")


class Display(Protocol):
    """Shows the progress of a run."""

    def show(self, event: Event) -> None: ...


def _never(event: Looked) -> bool:
    """The decision for a run that asks all its questions."""
    return False


class Supervisor:
    """Runs plans on one worker while they need the same engine."""

    def __init__(self) -> None:
        self.starts = 0
        self._worker: Worker | None = None
        self._served: Plan | None = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """Leave the devices as they were found; whoever interrupts has no time for that."""
        self.stop()
        if self._served is not None and kind is None:
            with suppress(KeyboardInterrupt):
                wait_for_memory(self._served, print)

    def start_early(self, plan: Plan) -> None:
        """Start a worker early so that it imports libraries during the remaining checks.

        A run whose plan sets other variables gets another worker.
        """
        with deferring():
            self._worker = Worker(plan, None)
        self._worker.import_libraries(plan.runtime)

    def evaluate(
        self,
        plan: Plan,
        run: RunDirectory,
        display: Display,
        limits: LimitsConfig,
        enough: Enough = _never,
    ) -> Outcome:
        """Evaluate on the running engine or a new one; an interruption also returns an Outcome.

        What has failed and may do better is tried again, as often as `limits` says. After anything
        but a whole run, or a refusal, the worker is not trusted again. `enough` is asked at each
        look at a run that may stop early.
        """
        events = _Events(run, display)
        began = time.monotonic()
        retries: list[str] = []
        try:
            with interruptible():
                while failure := self._attempt(plan, run, events, Watch(limits, began), enough):
                    self.stop()
                    reason = secrecy.blotted(failure.reason)
                    if not failure.transient or len(retries) >= limits.retries:
                        return _ended(run, State.ERROR, reason, retries)
                    retries.append(reason)
                    events.add(Retry(len(retries), limits.retries, reason))
        except Interrupted:
            self.stop()
            self._served = None
            return _ended(run, State.INTERRUPTED, "interrupted", retries)
        except BaseException:
            self.stop()
            raise
        outcome: Outcome = read_json(run.outcome, Outcome)
        if outcome.state is State.INTERRUPTED:
            self.stop()
        return _ended(run, outcome.state, outcome.reason, retries) if retries else outcome

    def recorded(self, stopped: bool = False) -> None:
        """Record that the verdict is on disk; a retry no longer needs the run's answers.

        Those of a run that `stopped` early stay, for the run that continues it.
        """
        if self._worker is not None:
            self._worker.recorded(stopped)

    def stop(self) -> None:
        """End the worker, if there is one; an interruption waits for it."""
        with deferring():
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.stop()

    def _attempt(
        self, plan: Plan, run: RunDirectory, events: _Events, watch: Watch, enough: Enough
    ) -> Failure | None:
        """None where the run has come to an end of its own, which its outcome then tells."""
        said_before = run.engine_log.stat().st_size if run.engine_log.exists() else 0
        self._keep_only_for(plan)
        starting = self._worker is None or self._worker.unused
        if starting and (why := _changed(plan)):
            return Failure(why)
        failure = self._worker_for(plan, run, events).evaluate(run, events.add, watch, enough)
        log = text_since(run.engine_log, said_before)
        if failure is not None:
            return failures.observed(failure, log, plan)
        outcome: Outcome = read_json(run.outcome, Outcome)
        if outcome.state is State.ERROR:
            return failures.reported(outcome.reason, log, plan)
        return None

    def _keep_only_for(self, plan: Plan) -> None:
        """End a worker that has died, or serves another engine."""
        worker, served = self._worker, self._served
        if worker is None:
            return
        if worker.unused:
            same = worker.python == plan.python and worker.variables == worker_environment(plan)
        else:
            same = served is not None and _same_engine(served, plan)
        if not (worker.alive and same):
            self.stop()

    def _worker_for(self, plan: Plan, run: RunDirectory, events: _Events) -> Worker:
        if self._worker is None or self._worker.unused:
            wait_for_memory(plan, lambda said: events.add(Waiting(said)))
            with deferring():  # a worker that has started is known, and will be ended
                self._worker = self._worker or Worker(plan, run.engine_log)
            self._served = plan
            self.starts += 1
        return self._worker


def _same_engine(served: Plan, plan: Plan) -> bool:
    """Two servers may say the same of themselves, so their addresses count as well.

    Two environments may have the same packages; each still runs its own points.
    """
    one, other = (
        (each.engine_fingerprint, each.engine_args.get("server"), each.python)
        for each in (served, plan)
    )
    return one == other


def _changed(plan: Plan) -> str:
    """Why a worker would load other code than was recorded; empty if it would not."""
    try:
        changed = interpreter_of(plan.python, plan.environment).changed_since(plan.code)
    except UserError as error:  # the environment has been removed or damaged since
        return str(error)
    if not changed:
        return ""
    return (
        f"the code of {', '.join(changed)} has changed since this run was checked, so the engine "
        "would load different code than was recorded; start the run again"
    )


class _Events:
    """What happens in a run: kept in its directory, and shown."""

    def __init__(self, run: RunDirectory, display: Display) -> None:
        self._file = run.events
        self._display = display

    def add(self, event: Event) -> None:
        with self._file.open("ab") as stream:
            stream.write(EVENTS.encode(event))
        self._display.show(event)


def _ended(run: RunDirectory, state: State, reason: str, retries: list[str]) -> Outcome:
    """An end that the worker could not report itself; the tasks that it had finished stay."""
    found = read_json(run.outcome, Outcome) if run.outcome.exists() else Outcome(state)
    outcome: Outcome = replace(found, state=state, reason=reason, retries=tuple(retries))
    write_json(run.outcome, outcome)
    return outcome


def text_since(log: Path, position: int) -> str:
    """Return the engine's log from the position on."""
    with log.open("rb") as stream:
        stream.seek(position)
        return stream.read().decode(errors="replace")


def log_tail(log: Path) -> str:
    """Return the last lines of the engine's log, without those that vLLM prints at every exit."""
    if not log.exists():
        return ""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if not LEAKS.match(line)]
    return "\n".join(lines[-LOG_TAIL_LINES:])
