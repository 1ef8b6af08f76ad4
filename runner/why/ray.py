"""Runs probes on a Ray cluster, side by side where devices allow.

To the sweep's scheduler, each is a point of its own, with its bookkeeping in `ray/NUMBER`; the run
itself is where a local one would be.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.config.recorded import Recorded
from runner.errors import FULL, UserError
from runner.report import terminal
from runner.rundir import read_json, write_json
from runner.status import USAGE_ERROR
from runner.supervision.interruption import deferring
from runner.supervision.supervisor import Supervisor
from runner.sweep import record, resume
from runner.sweep.points import Point
from runner.sweep.ray import Options, open_stores
from runner.sweep.ray_cluster import Cluster, connected
from runner.sweep.ray_run import NODE_WAIT_S, Run
from runner.sweep.ray_task import ENGINES, EngineRecord
from runner.sweep.record import PointRecord, point_directory
from runner.sweep.schedule import Job, impossible, jobs
from runner.tracking.courier import Courier
from runner.variables import LOADED
from runner.verdict import Verdict
from runner.why.probes import PROBES, Asked, Done, Runs, performed, placed
from runner.why.switches import set_aside, shell_variables

PLACE = "ray"
ENDED = "ended.json"
ERRNO = re.compile(r"\[Errno (\d+)\]")


@dataclass(frozen=True)
class Ended:
    """`ended.json`: what became of a run, None if it was interrupted, and its engine starts."""

    done: Done | None
    starts: int


@dataclass
class Work:
    """Runs the probe of a job in its Ray task.

    `kept` are the driver's variables that can change a result. Others that the node has are removed
    from the task, except those that load code: their paths are the node's own. `inherited` are
    variables that the search has removed from the driver; they are removed whatever they do, since
    Ray's workers can have them from the driver.
    """

    kept: frozenset[str] = frozenset()
    inherited: frozenset[str] = frozenset()

    def __call__(self, place: Path, job: Job) -> None:
        found = shell_variables().keys() - self.kept
        others = {each for each in found if not LOADED.fullmatch(each)}
        set_aside((*others, *self.inherited))
        (point,) = job.points
        file = point_directory(place, point.number).path / ENDED
        file.parent.mkdir(parents=True, exist_ok=True)
        done = None
        with Courier() as courier, Supervisor() as engine:
            try:
                done = performed(point.config, point.composed, engine, courier, terminal.console())
            finally:
                with deferring():
                    write_json(file, Ended(done, engine.starts))
        status = resume.ended(done.directory, otherwise=USAGE_ERROR)
        record.write_point(place, PointRecord(point.number, point.overrides, status))


class RayRuns(Runs):
    """Runs configurations on a cluster while it is entered.

    Raises:
        UserError: on entering, if Ray is not installed or the cluster can't be reached.
    """

    side_by_side = True

    def __init__(self, place: Path, courier: Courier, out: Console, options: Options) -> None:
        super().__init__(place, courier, out)
        self._ray = place / PLACE
        self._options = options
        self._stack = ExitStack()
        self._work = Work()
        self._cluster: Cluster
        self._run: Run
        self._count = 0
        # Those that are needed and have not ended, by name; of these, the ones that wait for
        # devices, in the order in which they start.
        self._jobs: dict[str, Job] = {}
        self._waiting: list[Job] = []

    def __enter__(self) -> RayRuns:
        options = self._options
        self._cluster = self._stack.enter_context(connected(options.address, options.resources))
        self._run = Run(self._ray, self._cluster, self._work, self._out, options.retries)
        return self

    def __exit__(self, *exception: Any) -> None:
        with deferring(), self._stack:
            self._run.cancel()

    @property
    def starts(self) -> int:
        """Number of engines that were started."""
        files = [self._file(number, ENDED) for number in range(self._count)]
        found: list[Ended] = [read_json(each, Ended) for each in files if each.is_file()]
        return sum(each.starts for each in found)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes on which engines ran, also before the search was interrupted."""
        files = sorted((self._ray / ENGINES).glob("*.json"))
        found: list[EngineRecord] = [read_json(each, EngineRecord) for each in files]
        return tuple(sorted({each.node for each in found}))

    @property
    def running(self) -> frozenset[str]:
        """The names of the runs that have begun and are still needed."""
        names = [job.points[0].overrides[0] for job in self._run.running]
        return frozenset(each for each in names if each in self._jobs)

    def run(self, name: str, recorded: Recorded, changes: Mapping[str, Any]) -> Done:
        """Run a configuration, or wait for its end if it was started ahead."""
        directory = self._place / PROBES / name
        try:
            job = self._submitted(name, recorded, changes)
        except UserError as error:
            return Done(directory, "", "; ".join(error.problems))
        command = job.points[0].composed.command
        # Ahead of all that may turn out not to be needed.
        self._waiting.sort(key=lambda each: each.number != job.number)
        since = time.monotonic()  # when a node last could run it, or it ran
        while self._run.ended(job.points[0]) is None:
            problem = self._problem(job)
            since = since if problem else time.monotonic()
            if problem and time.monotonic() - since >= NODE_WAIT_S:
                self._waiting = [each for each in self._waiting if each.number != job.number]
                del self._jobs[name]
                return Done(directory, command, problem)
            self._advance()
        del self._jobs[name]
        return self._done(job, directory, command)

    def _problem(self, job: Job) -> str | None:
        """Why a waiting job can't run on the nodes that are there now."""
        waits = any(each.number == job.number for each in self._waiting)
        return impossible(job, self._cluster.nodes()) if waits else None

    def set_aside(self, inherited: tuple[str, ...]) -> None:
        """Remove variables from this process and from tasks that start from now on."""
        super().set_aside(inherited)
        self._work.inherited |= set(inherited)

    def ahead(self, asked: Iterable[Asked]) -> None:
        """Start what may be needed next as devices allow, in this order."""
        for each in asked:
            with suppress(UserError):  # raised again where it is needed
                self._submitted(*each)
        if self._waiting:
            self._advance()

    def drop(self) -> None:
        """Stop what was started ahead and is not needed any more."""
        self._run.drop({job.number for job in self._jobs.values()})
        self._jobs, self._waiting = {}, []

    def _submitted(self, name: str, recorded: Recorded, changes: Mapping[str, Any]) -> Job:
        """The job of a run, which waits for devices if it is new."""
        if name in self._jobs:
            return self._jobs[name]
        config, composed = placed(self._place, name, recorded, changes)
        (job,) = jobs([Point(self._count, (name,), config, composed)])
        while any(each.points[0].overrides == (name,) for each in self._run.running):
            self._advance()  # one that was dropped still ends in its directory
        if not self._count:
            open_stores(job.points)
        self._count += 1
        self._run.prepare([job])
        self._file(job.number, ENDED).unlink(missing_ok=True)
        self._out.print(f"{job.title} is the probe {name}")
        self._jobs[name] = job
        self._waiting.append(job)
        return job

    def _advance(self) -> None:
        self._work.kept = frozenset(shell_variables())
        self._waiting = self._run.advance(self._waiting)

    def _done(self, job: Job, directory: Path, command: str) -> Done:
        file = self._file(job.number, ENDED)
        ended: Ended | None = read_json(file, Ended) if file.is_file() else None
        if ended is not None and ended.done is not None:
            return ended.done
        verdict: Verdict = read_json(point_directory(self._ray, job.number).verdict, Verdict)
        for number in ERRNO.findall(verdict.reason):
            if int(number) in FULL:  # else all later probes would be unresolved
                raise OSError(int(number), verdict.reason)
        return Done(directory, command, verdict.reason)

    def _file(self, number: int, name: str) -> Path:
        return point_directory(self._ray, number).path / name
