"""Run only the steps of a worker that come before its engine starts."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner.channel.worker import Event, RequestsBuilt, Unchecked
from runner.config.schema import LimitsConfig
from runner.outcome import Outcome, State
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json, write_json
from runner.status import INFRASTRUCTURE
from runner.supervision.interruption import deferring
from runner.supervision.limits import Watch
from runner.supervision.supervisor import Display, log_tail
from runner.supervision.worker_process import Worker

# A check fetches nothing.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


@dataclass
class Prospect:
    """The result of a check: requests by task, what was not checked, and the outcome.

    `log` is the end of the worker's log where it failed.
    """

    outcome: Outcome
    requests: dict[str, int] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)
    log: str = ""

    @property
    def status(self) -> int:
        """The exit status of a preflight."""
        return 0 if self.outcome.state is State.COMPLETED else INFRASTRUCTURE


class Checker:
    """Runs checks and reuses one worker while plans need the same engine; a context manager."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="runner-check-")
        self._worker: Worker | None = None
        self._fingerprint = ""
        self._checks = 0

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()
        self._directory.cleanup()

    def check(self, plan: Plan, display: Display, limits: LimitsConfig, weights: bool) -> Prospect:
        """Load tasks and data, check the engine's arguments and build every request.

        `weights` says whether the model is on this machine: without it only tasks are checked.
        """
        self._checks += 1
        run = RunDirectory(Path(self._directory.name) / str(self._checks))
        run.path.mkdir()
        write_json(run.plan, plan)
        run.engine_log.touch()
        found = Prospect(Outcome(State.ERROR))

        def tell(event: Event) -> None:
            match event:
                case Unchecked(text):
                    found.unchecked.append(text)
                case RequestsBuilt(requests):
                    found.requests = requests
            display.show(event)

        worker = self._worker_for(plan, run)
        failure = worker.check(run, tell, Watch(limits, time.monotonic()), weights)
        if failure is None:
            found.outcome = read_json(run.outcome, Outcome)
        else:
            found.outcome = Outcome(State.ERROR, failure.reason)
        if found.outcome.state is State.ERROR:
            found.log = log_tail(run.engine_log)
            self._stop()
        return found

    def _worker_for(self, plan: Plan, run: RunDirectory) -> Worker:
        wanted = (plan.engine_fingerprint, plan.python)
        if self._worker is not None and wanted != (self._fingerprint, self._worker.python):
            self._stop()
        if self._worker is None:
            offline = replace(plan, environment={**plan.environment, **OFFLINE})
            with deferring():
                self._worker = Worker(offline, run.engine_log)
            self._fingerprint = plan.engine_fingerprint
        return self._worker

    def _stop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()
