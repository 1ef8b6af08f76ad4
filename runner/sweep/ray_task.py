"""What happens inside a Ray task: its node's own environment, one engine, and its points."""

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

from runner import secrecy
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
    """`engines/3.json`: where the engine of point 3 and those that share it ran, and when.

    `ended` is None while it runs, and for ever where its node was lost.
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
    """What the driver hands to a task besides its job."""

    sweep: Path
    # Where the engine's record and log go, without an ending.
    record: Path
    # The driver's, in which relative paths of the configuration mean something.
    directory: Path
    variables: dict[str, str]


def perform_points(sweep: Path, job: Job) -> None:
    """The local launcher's work, on this node: check, leave out what is done, run the rest.

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
    """Runs in a Ray worker process that ends with it; a cancelled one returns like any other.

    Raises:
        RuntimeError: where the work would have ended the process, which Ray takes for a crash.
    """
    import ray

    context = ray.get_runtime_context()
    # A shell may start its background jobs with Ctrl-C ignored; a cancelled task is interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
    """What every node must have like the driver: its switches and its hubs, no secret, no place.

    Places (CANN's paths, network interfaces, devices) are each node's own.
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
    """The node's own environment, less what Ray adds to it, with what the driver hands on.

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
    """`7,6` → `6,7`: torch_npu sees no device at all unless they ascend."""
    parts = ids.split(",")
    return ",".join(sorted(parts, key=int)) if all(p.isdecimal() for p in parts) else ids


def devices(job: Job) -> str:
    """`NPU 6,7`, as the engine will see them."""
    need = job.need
    if need.spans:
        return f"{need.count} {need.resource} over the cluster"
    if need.resource not in VISIBLE:
        return f"{need.count} {need.resource}"
    return f"{need.resource} {os.environ.get(VISIBLE[need.resource], 'unknown')}"
