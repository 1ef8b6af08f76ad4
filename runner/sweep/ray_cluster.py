"""A Ray cluster as seen by the scheduler: nodes and resource usage."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from runner.config.places import PACKAGE
from runner.errors import UserError, cause
from runner.sweep.schedule import Job, Node

# Ray's view of what is in use lags behind: it is asked once nothing has changed for so long.
QUIET_S = 5.0
# Nothing but configurations goes through it; Ray would take a third of the memory.
OBJECT_STORE_BYTES = 100 << 20
# For the head node to accept a connection.
REACH_S = 10.0
COUNTED = ("NPU", "GPU", "CPU")
SETTINGS = {
    # Ray's workers are nice to others by 15, and an engine below one would be too.
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its warning that a task without devices will see all of them: which is what is wanted.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class Cluster:
    """Nodes of the cluster and their devices in use."""

    def __init__(self) -> None:
        self._changed = 0.0
        self._others: dict[str, dict[str, float]] = {}

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive."""
        import ray

        return [
            Node(node["NodeID"], node["NodeManagerHostname"], dict(node["Resources"]))
            for node in ray.nodes()
            if node["Alive"]
        ]

    def changed(self) -> None:
        """Note that one of our tasks started or ended."""
        self._changed = time.monotonic()

    def taken(self, running: Sequence[tuple[Job, Node]]) -> dict[str, dict[str, float]]:
        """Return devices in use by node and resource, by our tasks and by others."""
        ours: dict[str, dict[str, float]] = {}
        for job, node in running:
            if not job.need.spans:
                of_node = ours.setdefault(node.id, {})
                of_node[job.need.resource] = of_node.get(job.need.resource, 0) + job.need.count
        if time.monotonic() - self._changed > QUIET_S:
            self._others = self._used_by_others(ours)
            self.changed()
        return {
            node: {
                name: ours.get(node, {}).get(name, 0) + self._others.get(node, {}).get(name, 0)
                for name in COUNTED
            }
            for node in {*ours, *self._others}
        }

    def _used_by_others(
        self, ours: Mapping[str, Mapping[str, float]]
    ) -> dict[str, dict[str, float]]:
        available = _available()
        if available is None:
            return {}
        return {
            node.id: {
                name: max(
                    node.resources.get(name, 0.0)
                    - available.get(node.id, {}).get(name, 0.0)
                    - ours.get(node.id, {}).get(name, 0.0),
                    0.0,
                )
                for name in COUNTED
            }
            for node in self.nodes()
        }


@contextmanager
def connected(address: str | None, resources: Mapping[str, float]) -> Iterator[Cluster]:
    """Connect to the cluster at the address, or start one on this machine for the sweep.

    Raises:
        UserError: if Ray is not installed or the address is unreachable.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("hydra/launcher=ray: Ray is not installed: pip install ray") from error
    # Ray exits on SIGTERM in its own way, and hands on what it changed.
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray._private.accelerators.npu").setLevel(logging.CRITICAL)
    try:
        _init(ray, address, resources)
        for each, handler in handlers.items():
            signal.signal(each, handler)
        yield Cluster()
    finally:
        ray.shutdown()
        for each, handler in handlers.items():
            signal.signal(each, handler)


def _init(ray: Any, address: str | None, resources: Mapping[str, float]) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        counts = dict(resources)
        # "local": else Ray would join whatever cluster it finds running on this machine.
        ray.init(
            address="local",
            num_cpus=_whole(counts.pop("CPU", None)),
            num_gpus=_whole(counts.pop("GPU", None)),
            resources=counts or None,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
        return
    _reach(address)
    # Nodes have the runner where this one has it: on a file system that they share, or installed.
    path = f"{PACKAGE.parent}{os.pathsep}${{PYTHONPATH}}"
    try:
        ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": path}}, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = (str(error).strip().splitlines() or [repr(error)])[0]
        raise UserError(f"hydra.launcher.address={address}: {said}") from error


def _reach(address: str) -> None:
    """Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):  # such as "auto"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"hydra.launcher.address={address}: not reachable ({cause(error) or error}); "
            "`ray status` on the cluster's head node shows whether it runs"
        ) from error


def _whole(count: float | None) -> int | None:
    return None if count is None else int(count)


def _available() -> dict[str, dict[str, float]] | None:
    """Free resources by node; None if this version of Ray only exposes totals."""
    try:
        from ray._private.state import available_resources_per_node

        found: dict[str, dict[str, float]] = available_resources_per_node()
    except Exception:  # no public contract: the sweep runs as well without it
        return None
    return found
