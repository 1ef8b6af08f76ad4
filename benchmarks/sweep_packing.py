"""Measures how well a sweep uses a machine: 8 logical NPUs, and engines that only sleep.

    python -m benchmarks.sweep_packing [--seconds 20]

Everything is real except the engine: Ray's cluster and its NPU support, one task and process per
engine, the scheduling, the records on disk. Each point sleeps for a given time, like an engine that
waits for its devices. Two things are measured, from the first start to the last end:

1. 8 points of tp=1 run concurrently, compared with the same 8 one after another on one NPU.
2. A mix of tp=1, 2 and 4: the device-seconds that the points used out of those of 8 NPUs.

The time to start the cluster is printed separately and included in neither.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from runner.config.schema import RunConfig, TaskConfig
from runner.rundir import read_json
from runner.sweep import record
from runner.sweep.points import Point
from runner.sweep.ray_cluster import connected
from runner.sweep.ray_run import Run
from runner.sweep.ray_task import ENGINES, EngineRecord
from runner.sweep.record import PointRecord
from runner.sweep.schedule import Job, Need

NPUS = 8
# Relative lengths that make engines end at different times.
MIX = ((4, 1.0), (4, 0.8), (4, 1.2), *[(2, length) for length in (1.0, 0.6, 1.4, 0.8, 1.2, 1.0)])
NARROW = (1.0, 0.5, 1.5, 0.7, 1.3, 0.4, 0.9, 1.1, 0.6, 0.8, 1.2, 1.0, 0.5, 0.7, 0.3, 0.4)


@dataclass(frozen=True)
class Span:
    """The time that one engine ran on its devices."""

    number: int
    node: str
    devices: frozenset[int]
    start: float
    end: float


def stand_in(sweep: Path, job: Job) -> None:
    """Sleep in place of an engine; a point's `composed` is the time in seconds."""
    for point in job.points:
        end = time.monotonic() + float(point.composed)
        while time.monotonic() < end:  # one long sleep could not be cancelled
            time.sleep(0.02)
        record.write_point(sweep, PointRecord(point.number, point.overrides, 0))


def sleeper(number: int, width: int, seconds: float, points: int = 1) -> Job:
    """A job whose points sleep `seconds` in total.

    Each point's share is also its task limit, from which the scheduler derives its length.
    """
    share = seconds / points
    config = RunConfig(task=TaskConfig(names=["sleep"], limit=share))
    return Job(
        tuple(Point(number + each, (), config, str(share)) for each in range(points)),
        Need("NPU", width),
    )


def timeline(sweep: Path) -> list[Span]:
    """The engines that ran, from their own records; a lost one ends when it started."""
    spans = []
    for file in sorted((sweep / ENGINES).glob("*.json")):
        found: EngineRecord = read_json(file, EngineRecord)
        devices = frozenset(map(int, re.findall(r"\d+", found.devices)))
        end = found.started if found.ended is None else found.ended
        spans.append(Span(found.points[0], found.node_id, devices, found.started, end))
    return sorted(spans, key=lambda span: span.start)


def used_twice(spans: Sequence[Span]) -> list[tuple[Span, Span]]:
    """Pairs of engines that used the same device of a node at the same time."""
    return [
        (one, other)
        for index, one in enumerate(spans)
        for other in spans[index + 1 :]
        if one.node == other.node
        and one.devices & other.devices
        and one.start < other.end
        and other.start < one.end
    ]


def drawn(spans: Sequence[Span], columns: int = 72) -> str:
    """A text chart with a row per device and a letter per engine."""
    first = min(span.start for span in spans)
    scale = columns / (max(span.end for span in spans) - first)
    rows = {device: [" "] * columns for device in sorted(set().union(*(s.devices for s in spans)))}
    for index, span in enumerate(spans):
        for column in range(int((span.start - first) * scale), int((span.end - first) * scale)):
            for device in span.devices:
                rows[device][column] = chr(ord("A") + index % 26)
    return "\n".join(f"NPU {device} |{''.join(row)}|" for device, row in rows.items())


def perform(jobs: Sequence[Job], resources: Mapping[str, float]) -> tuple[float, list[Span]]:
    """Seconds from the first start to the last end, and the engines that ran."""
    with tempfile.TemporaryDirectory() as place:
        before = time.monotonic()
        with connected(None, resources) as cluster:
            print(f"  (cluster started in {time.monotonic() - before:.1f} s)", flush=True)
            started = time.monotonic()
            Run(Path(place), cluster, stand_in, Console(quiet=True), 0).perform(jobs)
            seconds = time.monotonic() - started
        return seconds, timeline(Path(place))


def side_by_side(seconds: float) -> float:
    """Ratio of the time on 8 NPUs to the time on one."""
    jobs = [sleeper(number, 1, seconds) for number in range(NPUS)]
    print(f"8 points of tp=1, {seconds:g} s each")
    one, spans = perform(jobs, {"NPU": 1})
    assert not used_twice(spans)
    print(f"  one after the other   {one:7.1f} s")
    eight, spans = perform(jobs, {"NPU": NPUS})
    assert not used_twice(spans)
    print(f"  on {NPUS} logical NPUs     {eight:7.1f} s")
    print(f"  ratio                 {eight / one:9.3f}   (at most 0.2)")
    print(drawn(spans), flush=True)
    return eight / one


def mix(seconds: float) -> float:
    """Share of 8 NPUs' time that the points used."""
    shapes = [*MIX, *((1, length) for length in NARROW)]
    jobs = [sleeper(n, width, length * seconds) for n, (width, length) in enumerate(shapes)]
    work = sum(width * length * seconds for width, length in shapes)
    print(f"{len(jobs)} points: {len(NARROW)} of tp=1, 6 of tp=2, 3 of tp=4")
    took, spans = perform(jobs, {"NPU": NPUS})
    assert not used_twice(spans)
    print(f"  {NPUS} NPUs full all the time {work / NPUS:7.1f} s")
    print(f"  measured                 {took:7.1f} s")
    print(f"  efficiency               {work / NPUS / took:9.1%}   (at least 90 %)")
    print(drawn(spans), flush=True)
    return work / NPUS / took


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="what a point takes, about")
    asked = parser.parse_args()
    ratio, efficiency = side_by_side(asked.seconds), mix(asked.seconds)
    raise SystemExit(0 if ratio <= 0.2 and efficiency >= 0.9 else 1)
