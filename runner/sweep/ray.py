"""Runs a sweep on a Ray cluster, with as many concurrent engines as devices allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from runner.errors import UserError
from runner.language import gettext, ngettext
from runner.report import terminal
from runner.sweep import record
from runner.sweep.launcher import refuse
from runner.sweep.points import Point
from runner.sweep.ray_cluster import Cluster, connected
from runner.sweep.ray_run import Run
from runner.sweep.ray_task import perform_points
from runner.sweep.record import PointRecord
from runner.sweep.schedule import Job, Node, impossible, jobs
from runner.tracking.courier import Courier
from runner.tracking.records import experiment_of
from runner.tracking.sender_process import NotSent


@dataclass(frozen=True)
class Options:
    """`hydra.launcher.*` of conf/hydra/launcher/ray.yaml."""

    address: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    retries: int = 2


def run_on_ray(sweep: Path, points: Sequence[Point], options: Options) -> None:
    """Implement SweepLauncher.run_points."""
    out = terminal.console()
    sweep = sweep.resolve()
    if options.address is None:
        # The cluster is this machine, so points can be refused before Ray starts.
        points = _checked_here(sweep, points, out)
    if not points:
        return
    with connected(options.address, options.resources) as cluster:
        able = _refuse_impossible(sweep, jobs(points), cluster.nodes())
        if len(able) < len(jobs(points)) and any(point.config.sweep.strict for point in points):
            raise UserError("sweep.strict=true: a point was refused, so no point was run")
        count = sum(len(job.points) for job in able)
        _announce(out, cluster, count, len(able))
        record.note_starts(sweep, len(able), count - len(able))
        open_stores([point for job in able for point in job.points])
        Run(sweep, cluster, perform_points, out, options.retries).perform(able)


def _checked_here(sweep: Path, points: Sequence[Point], out: Console) -> list[Point]:
    """The points left to run, checked as by the local launcher."""
    from runner.sweep import resume
    from runner.sweep.local import check_all

    with Courier() as courier:
        ready = check_all(sweep, points, courier, out)
    wanted = {number: checked for number, (_, checked) in ready.items()}
    first = min((point.number for point in points), default=0)
    done = resume.settle(sweep, wanted, first)
    for number, status in done.items():
        record.write_point(sweep, PointRecord(number, ready[number][0].overrides, status))
    if done:
        out.print(
            gettext(
                "sweep: {done} of {count} points already done", done=len(done), count=len(points)
            )
        )
    return [point for number, (point, _) in ready.items() if number not in done]


def _refuse_impossible(sweep: Path, able: Sequence[Job], nodes: Sequence[Node]) -> list[Job]:
    """Refuse jobs that Ray would leave pending forever."""
    problems = {job.number: impossible(job, nodes) for job in able}
    refuse(
        sweep,
        [
            PointRecord(point.number, point.overrides, refused=(problem,))
            for job in able
            if (problem := problems[job.number]) is not None
            for point in job.points
        ],
    )
    return [job for job in able if problems[job.number] is None]


def open_stores(points: Sequence[Point]) -> None:
    """Create local MLflow stores once, instead of delaying every engine.

    Errors are ignored here, because they occur and are reported again at upload.
    """
    wanted = {
        (config.uri, experiment_of(point.config)): config.timeout_s
        for point in points
        if (config := point.config.tracking).enabled and config.uri.startswith("sqlite:")
    }
    with Courier() as courier:
        for (uri, experiment), timeout_s in sorted(wanted.items()):
            with suppress(NotSent):
                courier.open(uri, experiment, timeout_s)


def _announce(out: Console, cluster: Cluster, points: int, engines: int) -> None:
    nodes = cluster.nodes()
    counts = {
        name: total
        for name in ("NPU", "GPU", "CPU")
        if (total := sum(node.resources.get(name, 0.0) for node in nodes))
    }
    said = gettext(
        "sweep: {points} on {engines}, Ray has {devices} on {nodes}",
        points=ngettext("{count} point", "{count} points", points),
        engines=ngettext("{count} engine", "{count} engines", engines),
        devices=gettext(", ").join(f"{count:g} {name}" for name, count in counts.items()),
        nodes=ngettext("{count} node", "{count} nodes", len(nodes)),
    )
    if points > engines:
        saved = gettext("{count} engine starts saved", count=points - engines)
        said = gettext("; ").join((said, saved))
    out.print(said)
