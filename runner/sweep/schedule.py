"""Schedules the engines of a sweep on the nodes of a cluster. Does not import Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runner.sweep.engine_groups import grouped, size
from runner.sweep.points import Point

# Ray's names of what it counts. Those it knows tell a task which devices are its own.
RESOURCES = {"ascend": "NPU", "cuda": "GPU", "cpu": "CPU", "remote": "CPU"}


@dataclass(frozen=True)
class Need:
    """Devices that one engine needs: all on one node, or placed by Ray if it spans nodes."""

    resource: str
    count: int
    spans: bool = False


@dataclass(frozen=True)
class Job:
    """The points that share an engine; one Ray task."""

    points: tuple[Point, ...]
    need: Need

    @property
    def number(self) -> int:
        """Return the number of its first point, which is unique."""
        return self.points[0].number

    @property
    def numbers(self) -> str:
        return ",".join(str(point.number) for point in self.points)

    @property
    def title(self) -> str:
        return f"point{'s' if len(self.points) > 1 else ''} {self.numbers}"


@dataclass(frozen=True)
class Node:
    """A node of the cluster and its total resources."""

    id: str
    name: str
    resources: Mapping[str, float]


def jobs(points: Iterable[Point]) -> list[Job]:
    """Return one job per engine, in the order in which they should start."""
    groups = grouped((point.config, point) for point in points)
    return ordered(Job(tuple(group), _need(group[0])) for group in groups)


def ordered(waiting: Iterable[Job]) -> list[Job]:
    """Sort jobs by devices, then by estimated length, largest first.

    Small engines fill the gaps between large ones. The length of a point is unknown, so the number
    of its tasks is used; a task without a limit counts as longer than any with one.
    """

    def rank(job: Job) -> tuple[bool, int, int, float, int]:
        tasks = [(len(point.config.task.names), point.config.task.limit) for point in job.points]
        whole = sum(count for count, limit in tasks if limit is None)
        limited = sum(count * limit for count, limit in tasks if limit is not None)
        return (not job.need.spans, -job.need.count, -whole, -limited, job.number)

    return sorted(waiting, key=rank)


def impossible(job: Job, nodes: Sequence[Node]) -> str | None:
    """Return why the job can never run on this cluster; None if it can."""
    need = job.need
    most = _most(need, nodes)
    if need.count <= most:
        return None
    where = f"the cluster has {most:g}" if need.spans else f"no node has more than {most:g}"
    return (
        f"parallelism: tp×pp×dp={need.count} needs {need.count} {need.resource} (as counted by "
        f"Ray), but {where}"
    )


def choose(
    waiting: Sequence[Job],
    nodes: Sequence[Node],
    taken: Mapping[str, Mapping[str, float]],
    running: Iterable[Job],
) -> list[tuple[Job, Node]]:
    """Choose the jobs to start now, each on the node with the fewest devices left idle.

    `taken` are the devices in use, by node and resource. An engine that spans nodes has the cluster
    to itself, for nobody can tell which devices Ray will give its ranks.
    """
    running = list(running)
    if any(job.need.spans for job in running):
        return []
    free = {
        node.id: {
            name: count - taken.get(node.id, {}).get(name, 0.0)
            for name, count in node.resources.items()
        }
        for node in nodes
    }
    chosen: list[tuple[Job, Node]] = []
    for job in waiting:
        need = job.need
        if need.spans:
            if running or chosen or impossible(job, nodes):
                continue
            return [(job, max(nodes, key=lambda node: node.resources.get(need.resource, 0.0)))]
        fitting = [node for node in nodes if free[node.id].get(need.resource, 0.0) >= need.count]
        if fitting:
            best = min(fitting, key=lambda node: free[node.id][need.resource])
            free[best.id][need.resource] -= need.count
            chosen.append((job, best))
    return chosen


def _need(point: Point) -> Need:
    asked = size(point.config)
    return Need(RESOURCES[asked.platform], asked.ranks, point.config.engine.spans_nodes)


def _most(need: Need, nodes: Sequence[Node]) -> float:
    counts = [node.resources.get(need.resource, 0.0) for node in nodes]
    return sum(counts) if need.spans else max(counts, default=0.0)
