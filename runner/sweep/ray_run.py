"""Runs jobs on a Ray cluster: schedules, retries lost tasks, handles interruption.

The driver decides what starts where and when. Ray starts it there, assigns devices and reports lost
tasks. Tasks report their progress as files in the sweep directory, which all nodes share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.errors import UserError
from runner.language import gettext, language
from runner.messages import complain
from runner.rundir import RunDirectory, read_json, write_json
from runner.status import EXIT_STATUS, INFRASTRUCTURE, INTERRUPTED, Status
from runner.supervision.interruption import deferring
from runner.sweep import ray_lines, record
from runner.sweep.points import Point
from runner.sweep.ray_cluster import Cluster
from runner.sweep.ray_task import ENGINES, EngineRecord, Sent, Work, handed_on, task
from runner.sweep.record import PointRecord
from runner.sweep.schedule import Job, Node, choose, impossible, ordered
from runner.verdict import Verdict

POLL_S = 0.25
# For an interrupted engine to end, its verdict to be written and MLflow to be told.
GRACE_S = 60.0
# A node that is started again registers within this time.
NODE_WAIT_S = 60.0


@dataclass
class Running:
    """A task submitted to Ray; `told` is its engine record, once written.

    One that was `dropped` does not run again.
    """

    job: Job
    node: Node
    reference: Any
    record: Path
    since: float
    told: EngineRecord | None = None
    ended: set[int] = field(default_factory=set)
    dropped: bool = False


class Run:
    """Runs jobs on a cluster until all have ended."""

    def __init__(
        self, sweep: Path, cluster: Cluster, work: Work, out: Console, retries: int
    ) -> None:
        import ray

        self._sweep, self._cluster, self._work, self._out = sweep, cluster, work, out
        self._retries = retries
        known = record.read_known(sweep)
        self._axes = known.axes() if known is not None else {}
        self._lost: dict[int, int] = {}
        self._running: list[Running] = []
        self._stuck_since: float | None = None
        # A process of its own for each: Ray would use one again for other devices. Ray's own
        # retries would be invisible here, and start in another order.
        self._task = ray.remote(max_calls=1, max_retries=0)(task)

    def perform(self, able: Sequence[Job]) -> None:
        """Run all jobs; afterwards every point has its point.json.

        Raises:
            KeyboardInterrupt: after all running tasks ended or were killed.
        """
        waiting = ordered(able)
        self.prepare(waiting)
        try:
            while waiting or self._running:
                waiting = ordered(self.advance(waiting))
        except KeyboardInterrupt:
            with deferring():
                self.cancel()
            raise

    def prepare(self, able: Sequence[Job]) -> None:
        """Forget how the points of these jobs ended before."""
        (self._sweep / ENGINES).mkdir(parents=True, exist_ok=True)
        for job in able:
            for point in job.points:
                (self._sweep / str(point.number) / record.POINT).unlink(missing_ok=True)

    def advance(self, waiting: list[Job]) -> list[Job]:
        """Start what fits, in this order, and wait a moment; return the jobs that still wait."""
        waiting = self._start(waiting)
        self._wait()
        self._look()
        return [*waiting, *self._collect()]

    @property
    def running(self) -> list[Job]:
        """The jobs whose tasks have not ended."""
        return [each.job for each in self._running]

    def drop(self, numbers: Container[int]) -> None:
        """Interrupt the tasks of these jobs, without waiting for their end."""
        import ray

        for each in self._running:
            if each.job.number in numbers and not each.dropped:
                each.dropped = True
                ray.cancel(each.reference, force=False, recursive=False)

    def _start(self, waiting: list[Job]) -> list[Job]:
        """Start what fits; what cannot fit any more, on the nodes that are left, is given up."""
        nodes = self._cluster.nodes()
        taken = self._cluster.taken([(each.job, each.node) for each in self._running])
        for job, node in choose(waiting, nodes, taken, [each.job for each in self._running]):
            self._submit(job, node)
            waiting = [each for each in waiting if each is not job]
        if not waiting or self._running or not all(impossible(each, nodes) for each in waiting):
            self._stuck_since = None
            return waiting
        self._stuck_since = self._stuck_since or time.monotonic()
        if time.monotonic() - self._stuck_since < NODE_WAIT_S:
            return waiting
        for job in waiting:
            for point in job.points:
                reason = gettext(
                    "no remaining node can run it: {reason}", reason=impossible(job, nodes)
                )
                self._give_up(point, reason)
        return []

    def _submit(self, job: Job, node: Node) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place = self._sweep / ENGINES / str(job.number)
        attempt = 1
        while place.with_suffix(".json").exists() or place.with_suffix(".log").exists():
            attempt += 1
            place = place.with_name(f"{job.number}-{attempt}")
        sent = Sent(self._sweep, place, Path.cwd(), handed_on(os.environ), language())
        need = job.need
        amount = 0 if need.spans else need.count
        reference = self._task.options(
            name=f"{job.title} of {self._sweep.name}",
            num_cpus=amount if need.resource == "CPU" else 0,
            num_gpus=amount if need.resource == "GPU" else 0,
            resources={need.resource: amount} if amount and need.resource == "NPU" else {},
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=True),
        ).remote(sent, job, self._work)
        self._running.append(Running(job, node, reference, place, time.monotonic()))
        self._cluster.changed()

    def _wait(self) -> None:
        import ray

        if self._running:
            references = [each.reference for each in self._running]
            ray.wait(references, num_returns=1, timeout=POLL_S, fetch_local=False)
        else:
            time.sleep(POLL_S)

    def _look(self) -> None:
        """Say what has begun and ended since the last look."""
        for each in self._running:
            file = each.record.with_suffix(".json")
            if each.told is None and file.is_file():
                told: EngineRecord = read_json(file, EngineRecord)
                each.told, each.since = told, time.monotonic()
                self._out.print(ray_lines.started(each.job, told.place))
            for point in each.job.points:
                ended = self.ended(point)
                if ended is not None and point.number not in each.ended:
                    each.ended.add(point.number)
                    self._say(point, ended, each)
                    each.since = time.monotonic()

    def _say(self, point: Point, ended: PointRecord, running: Running) -> None:
        """`point 3 (parallelism.tp=2): PASSED in 41 s (node-1, NPU 4,5)`."""
        found = RunDirectory(self._sweep / str(point.number)).verdict
        if ended.refused:
            complain(UserError(*(f"point {point.number}: {each}" for each in ended.refused)))
            word = Status.REFUSED.value
        elif found.is_file():
            verdict: Verdict = read_json(found, Verdict)
            word = verdict.status.value
        else:
            word = gettext("exit status {status}", status=ended.status)
        seconds = time.monotonic() - running.since
        place = running.told.place if running.told is not None else ""
        self._out.print(ray_lines.ended(self._title(point), word, seconds, place))

    def _collect(self) -> list[Job]:
        """Take what Ray has done with off the list; what of it must run again."""
        import ray

        references = [each.reference for each in self._running]
        if not references:
            return []
        done, _ = ray.wait(references, num_returns=len(references), timeout=0, fetch_local=False)
        again = []
        for each in [running for running in self._running if running.reference in done]:
            self._running.remove(each)
            self._cluster.changed()
            again += self._settled(each)
        return again

    def _settled(self, running: Running) -> list[Job]:
        """The unfinished points of a task, as a new job.

        Points run in order, so the first unfinished one was lost. A point that is lost too often is
        given up, and so is one whose task raised an exception.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        reason, retry = gettext("its task was interrupted"), True
        try:
            ray.get(running.reference)
        except RayTaskError as error:
            reason, retry = gettext("its task failed: {error}", error=_last_line(error)), False
        except RayError as error:
            reason = f"{type(error).__name__}: {_first_sentence(error)}"
        self._look_again(running)
        left = tuple(point for point in running.job.points if self.ended(point) is None)
        if running.dropped or not left:
            return []
        first = left[0]
        self._lost[first.number] = self._lost.get(first.number, 0) + 1
        place = running.told.place if running.told is not None else running.node.name
        if not retry or self._lost[first.number] > self._retries:
            times = self._lost[first.number]
            self._give_up(first, ray_lines.lost(times, place, reason))
            left = left[1:]
        else:
            attempt = self._lost[first.number]
            said = ray_lines.retried(running.job, place, reason, attempt, self._retries)
            self._out.print(said)
        return [replace(running.job, points=left)] if left else []

    def _title(self, point: Point) -> str:
        return record.point_title(point.number, point.overrides, self._axes)

    def _look_again(self, running: Running) -> None:
        """Report points that ended just before the task did."""
        self._running.append(running)
        self._look()
        self._running.remove(running)

    def ended(self, point: Point) -> PointRecord | None:
        """How it ended; an interrupted one has not."""
        file = self._sweep / str(point.number) / record.POINT
        if not file.is_file():
            return None
        found: PointRecord = read_json(file, PointRecord)
        return None if found.status in (None, INTERRUPTED) else found

    def _give_up(self, point: Point, reason: str) -> None:
        """The infrastructure's fault; what the point has left stays beside it."""
        files = RunDirectory(self._sweep / str(point.number))
        files.path.mkdir(parents=True, exist_ok=True)
        if not files.config.exists():
            point.composed.write(files)
        write_json(files.verdict, Verdict(Status.ERROR, reason, "", (), EXIT_STATUS[Status.ERROR]))
        ended = PointRecord(point.number, point.overrides, INFRASTRUCTURE)
        record.write_point(self._sweep, ended)
        self._out.print(ray_lines.given_up(self._title(point), reason))

    def cancel(self) -> None:
        """Interrupt every task as Ctrl-C would; kill what has not ended in time."""
        import ray

        references = [each.reference for each in self._running]
        if not references:
            return
        count = len(references)
        self._out.print(ray_lines.stopping(count))
        for reference in references:
            ray.cancel(reference, force=False, recursive=False)
        _, late = ray.wait(references, num_returns=count, timeout=GRACE_S, fetch_local=False)
        for reference in late:
            ray.cancel(reference, force=True, recursive=False)
        if late:
            ray.wait(late, num_returns=len(late), timeout=POLL_S * 20, fetch_local=False)
        self._look()


def _first_sentence(error: BaseException) -> str:
    """Ray goes on with advice that names its own tools."""
    return (str(error).strip().splitlines() or [""])[0].partition(". ")[0]


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[-1]
