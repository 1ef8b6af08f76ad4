"""Runs the points of one engine inside a Ray task."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from runner import language, secrecy
from runner.attempt import attempt
from runner.rundir import write_json
from runner.sweep import record
from runner.sweep.record import PointRecord
from runner.sweep.schedule import Job
from runner.variables import LOADED, TELLING, moving, switches

ENGINES = "engines"
VISIBLE = {"NPU": "ASCEND_RT_VISIBLE_DEVICES", "GPU": "CUDA_VISIBLE_DEVICES"}
# Where the hubs' files lie and whether a hub may be asked: one answer for all nodes.
HUB = ("HF_", "TRANSFORMERS_", "MODELSCOPE_", "USE_MODELSCOPE_")

Work = Callable[[Path, Job], None]


@dataclass(frozen=True)
class EngineRecord:
    """`engines/3.json`: where and when the engine of point 3 ran.

    `ended` is None while it runs and after its node was lost.
    """

    points: tuple[int, ...]
    node: str
    node_id: str
    pid: int
    devices: str
    started: float
    ended: float | None = None

    @property
    def place(self) -> str:
        return f"{self.node}, {self.devices}"


@dataclass(frozen=True)
class Sent:
    """Data that the driver passes to a task besides its job."""

    sweep: Path
    # Where the engine's record and log go, without an ending.
    record: Path
    # The driver's, in which relative paths of the configuration mean something.
    directory: Path
    variables: dict[str, str]
    # Of verdicts and reports; the variables that choose it are not handed on.
    language: str = language.ENGLISH


def perform_points(sweep: Path, job: Job) -> None:
    """Check the points on this node, skip finished ones and run the rest.

    Raises:
        KeyboardInterrupt: after the interrupted point's bookkeeping.
    """
    from runner.report import terminal
    from runner.run import Checked, check
    from runner.sweep import resume
    from runner.sweep.local import perform_group
    from runner.sweep.points import Point
    from runner.tracking.courier import Courier

    out = terminal.console()
    left: list[tuple[Point, Checked]] = []

    def look(point: Point, courier: Courier) -> int:
        checked = check(point.config, point.composed, courier, out)
        status = resume.status_of(sweep / str(point.number), checked)
        if status is None:
            left.append((point, checked))
        return status or 0

    with Courier() as courier:
        for point in job.points:
            before = len(left)
            status, problems = attempt(partial(look, point, courier), sweep / str(point.number))
            if len(left) == before:  # refused, or done before
                ended = PointRecord(point.number, point.overrides, status, problems)
                record.write_point(sweep, ended)
        perform_group(sweep, left, courier, out)


def task(sent: Sent, job: Job, work: Work) -> None:
    """Run a job in its own Ray worker process; a cancelled task returns normally.

    Raises:
        RuntimeError: if the work calls sys.exit, which Ray would treat as a crash.
    """
    import ray

    context = ray.get_runtime_context()
    # A shell may start its background jobs with Ctrl-C ignored; a cancelled task is interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    language.use(sent.language)
    with environment(sent, job, context.gcs_address):
        began = EngineRecord(
            points=tuple(point.number for point in job.points),
            node=socket.gethostname(),
            node_id=context.get_node_id(),
            pid=os.getpid(),
            devices=devices(job),
            started=time.time(),
        )
        file = sent.record.with_suffix(".json")
        write_json(file, began)
        with (
            sent.record.with_suffix(".log").open("a", encoding="utf-8", buffering=1) as log,
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            try:
                work(sent.sweep, job)
            except KeyboardInterrupt:
                print("interrupted")
            except SystemExit as error:
                raise RuntimeError(f"the task would have ended with {error.code}") from error
            finally:
                write_json(file, replace(began, ended=time.time()))


def handed_on(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that every node needs: switches and hubs, no secrets.

    Paths, network interfaces and devices are specific to each node.
    """
    switched = moving(switches(variables))
    return {
        name: text
        for name, text in variables.items()
        if TELLING.fullmatch(name)
        and not secrecy.names_secret(name, text)
        and not secrecy.holds_any(text)
        and (name.startswith(HUB) or (name in switched and not LOADED.fullmatch(name)))
    }


@contextmanager
def environment(sent: Sent, job: Job, address: str) -> Iterator[None]:
    """Set the node's environment without Ray's additions and with the driver's variables.

    Ray sets OMP_NUM_THREADS to the CPUs of a task, which would slow an engine and change its
    fingerprint. With Ray's variables gone an engine does not join this cluster: vLLM spreads its
    ranks with multiprocessing over the devices that the task has. One that spans nodes must join.
    """
    before, place = dict(os.environ), Path.cwd()
    for name in [each for each in before if each.startswith("RAY_")]:
        del os.environ[name]
    os.environ.pop("OMP_NUM_THREADS", None)
    os.environ.pop("PYTHONBREAKPOINT", None)
    os.environ["RAY_ADDRESS"] = address if job.need.spans else "local"
    for name in VISIBLE.values():
        if job.need.spans:
            os.environ.pop(name, None)  # the engine's ranks are told by their own Ray tasks
        elif name in os.environ:
            os.environ[name] = ascending(os.environ[name])
    os.environ.update(sent.variables)
    with suppress(OSError):
        os.chdir(sent.directory)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.chdir(place)


def ascending(ids: str) -> str:
    """Sort device IDs (`7,6` → `6,7`): torch_npu sees no device unless they ascend."""
    parts = ids.split(",")
    return ",".join(sorted(parts, key=int)) if all(p.isdecimal() for p in parts) else ids


def devices(job: Job) -> str:
    """Return `NPU 6,7`, the devices visible to the engine."""
    need = job.need
    if need.spans:
        return f"{need.count} {need.resource} across the cluster"
    if need.resource not in VISIBLE:
        return f"{need.count} {need.resource}"
    return f"{need.resource} {os.environ.get(VISIBLE[need.resource], 'unknown')}"
