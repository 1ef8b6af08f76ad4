"""Reads a sweep directory: each point, its overrides and its result.

Everything comes from disk, so resumed, interrupted and unfinished sweeps read the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.overrides import unescaped
from runner.errors import UserError
from runner.language import gettext
from runner.outcome import Outcome
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json
from runner.status import INTERRUPTED, USAGE_ERROR, Status
from runner.sweep import record
from runner.sweep.record import PointRecord
from runner.tracking.tracked import TrackedRun
from runner.verdict import MetricVerdict, Verdict, boundary

NOT_RUN, UNFINISHED = "NOT RUN", "UNFINISHED"
WORST_FIRST = (
    *("FAILED", "ERROR", "INCONCLUSIVE", "UNJUDGED"),
    *("REFUSED", "INTERRUPTED", UNFINISHED, NOT_RUN, "PASSED"),
)
STATES = (*(status.value for status in Status), UNFINISHED, NOT_RUN)
LONGEST_VALUE = 24
SERVER = re.compile(r"https?://([^/?#@]+)(?:/v1)?/?")
PATH = re.compile(r"[\w.~/+@-]*[\w.~+@-]/?")
# What is left of it is the environment.
INTERPRETER = re.compile(r"/bin/python[\d.]*$")
_BY_EXIT_STATUS = {USAGE_ERROR: Status.REFUSED, INTERRUPTED: Status.INTERRUPTED}


@dataclass(frozen=True)
class MetricId:
    """Identifies a metric of lm-eval."""

    task: str
    metric: str
    filter: str

    @property
    def name(self) -> str:
        """Return `canary acc` or `gsm8k exact_match (strict-match)`."""
        return f"{self.task} {self.metric}" + ("" if self.filter == "none" else f" ({self.filter})")


@dataclass(frozen=True)
class Axis:
    """One swept key; `names` are its values as a reader sees them, in the order of `values`."""

    key: str
    short: str
    values: tuple[str, ...]
    names: tuple[str, ...]

    def name(self, value: str | None) -> str:
        return self.names[self.values.index(value)] if value in self.values else gettext("unset")


@dataclass(frozen=True)
class SweptPoint:
    """One point. `overrides` are its keys and values; `label` is what tells it from the others."""

    number: int
    overrides: dict[str, str]
    label: str
    state: str
    reason: str
    exit_status: int | None
    files: RunDirectory
    plan: Plan | None
    outcome: Outcome | None
    verdict: Verdict | None
    tracked: TrackedRun | None

    @property
    def metrics(self) -> dict[MetricId, MetricVerdict]:
        found = self.verdict.metrics if self.verdict is not None else ()
        return {MetricId(each.task, each.metric, each.filter): each for each in found}

    def measured(self, metric: MetricId) -> MetricVerdict | None:
        """Return the metric; None if its value is missing or NaN."""
        found = self.metrics.get(metric)
        known = found is not None and found.value is not None and math.isfinite(found.value)
        return found if known else None

    def seconds(self, lap: str) -> float | None:
        return self.outcome.timings.get(lap) if self.outcome is not None else None

    def per_second(self, what: str) -> float | None:
        """Return `output_tokens` or `scored` (samples) per second; None if unknown."""
        tasks = self.outcome.tasks if self.outcome is not None else ()
        seconds = sum(task.seconds for task in tasks)
        return sum(getattr(task, what) for task in tasks) / seconds if seconds > 0 else None


@dataclass(frozen=True)
class Sweep:
    """All points of a sweep; `compared` are the compared metrics."""

    id: str
    command: str
    directory: Path
    axes: tuple[Axis, ...]
    points: tuple[SweptPoint, ...]
    compared: tuple[MetricId, ...]
    engine_starts: int
    engine_starts_saved: int

    def counts(self) -> dict[str, int]:
        """Return the number of points by state, PASSED first."""
        states = [point.state for point in self.points]
        return {state: states.count(state) for state in STATES if state in states}

    @property
    def worst(self) -> str:
        """Return the worst state of all points."""
        return min((point.state for point in self.points), key=WORST_FIRST.index, default=NOT_RUN)

    def compared_in(self, point: SweptPoint) -> tuple[MetricId | None, ...]:
        """Return the compared metrics that the point has, or (None,) for a row without any.

        A point of one task lacks the metrics of another.
        """
        return tuple(each for each in self.compared if each in point.metrics) or (None,)

    def spans(self, metric: MetricId, axis: Axis) -> bool:
        """Return whether the metric was measured at two values of the axis."""
        values = {p.overrides.get(axis.key) for p in self.points if p.measured(metric) is not None}
        return len(values) > 1

    def tolerated(self, metric: MetricId) -> list[boundary.Range | None]:
        """Return the ranges that the rules of all points tolerate, each once."""
        measured = [found for point in self.points if (found := point.measured(metric)) is not None]
        return list(dict.fromkeys(found.tolerated for found in measured))

    def higher_is_better(self, metric: MetricId) -> bool:
        """Return the direction declared by lm-eval; higher is better if it declares none."""
        for point in self.points:
            for task in point.outcome.tasks if point.outcome is not None else ():
                for result in task.metrics:
                    if MetricId(result.task, result.metric, result.filter) == metric:
                        return result.higher_is_better is not False
        return True


def read_sweep(directory: Path) -> Sweep:
    """Read everything about a sweep except its samples.

    Raises:
        UserError: if the directory contains no sweep.
    """
    found = record.read(directory)
    if found is None:
        raise UserError(f"{directory}: not a sweep directory ({record.NAME} is missing)")
    swept = found.axes()
    shorts = short_keys(tuple(swept))
    axes = tuple(
        Axis(key, short, values, short_values(values))
        for (key, values), short in zip(swept.items(), shorts, strict=True)
    )
    points = tuple(_point(directory, each, axes) for each in found.points)
    return Sweep(
        id=found.id,
        command=found.command,
        directory=directory,
        axes=axes,
        points=points,
        compared=_compared(points),
        engine_starts=found.engine_starts,
        engine_starts_saved=found.engine_starts_saved,
    )


def short_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """Return the shortest unique suffix of each dotted key: `tp` for `parallelism.tp`."""

    def ends(key: str) -> list[str]:
        parts = key.split(".")
        return [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]

    return tuple(
        next((end for end in ends(key) if sum(end in ends(other) for other in keys) == 1), key)
        for key in keys
    )


def short_values(values: Sequence[str]) -> tuple[str, ...]:
    """Return values short enough for a column, unless that makes them ambiguous.

    Of a path its last part is left, of an interpreter the name of its environment, and of a
    server's URL the host and its port.
    """

    def short(value: str) -> str:
        if server := SERVER.fullmatch(value):
            return server[1]
        value = INTERPRETER.sub("", value)
        last = value.rstrip("/").rpartition("/")[2] if PATH.fullmatch(value) else value
        if len(last) <= LONGEST_VALUE:
            return last
        half = LONGEST_VALUE // 2 - 1
        return f"{last[:half]}…{last[-half:]}"

    plain = tuple(unescaped(value) for value in values)
    shortened = tuple(short(value) for value in plain)
    different = len(set(values))
    return next((each for each in (shortened, plain) if len(set(each)) == different), tuple(values))


def _point(sweep: Path, point: PointRecord, axes: tuple[Axis, ...]) -> SweptPoint:
    files = record.point_directory(sweep, point.number)
    overrides = {}
    for override in point.overrides:
        key, _, value = override.lstrip("+~").partition("=")
        overrides[key] = value
    try:
        plan = _read(files.plan, Plan)
        outcome = _read(files.outcome, Outcome)
        verdict = _read(files.verdict, Verdict)
        tracked = _read(files.tracked, TrackedRun)
        state, reason = _state(point, files, verdict)
        if point.refused:  # the results are those of an earlier attempt
            plan = outcome = verdict = None
    except ValueError as error:  # pydantic's; a disk that was full, a file cut by hand
        plan = outcome = verdict = tracked = None
        state = Status.ERROR.value
        reason = gettext("unreadable: {error}", error=str(error).splitlines()[0])
    label = " ".join(f"{axis.short}={axis.name(overrides.get(axis.key))}" for axis in axes)
    return SweptPoint(
        number=point.number,
        overrides=overrides,
        label=label or gettext("point {number}", number=point.number),
        state=state,
        reason=reason,
        exit_status=point.status,
        files=files,
        plan=plan,
        outcome=outcome,
        verdict=verdict,
        tracked=tracked,
    )


def _read(file: Path, kind: type[Any]) -> Any:
    return read_json(file, kind) if file.is_file() else None


def _state(point: PointRecord, files: RunDirectory, verdict: Verdict | None) -> tuple[str, str]:
    if point.refused:
        return Status.REFUSED.value, "; ".join(point.refused)
    if verdict is not None:
        return verdict.status.value, verdict.reason
    if point.status is not None:
        ended = _BY_EXIT_STATUS.get(point.status, Status.ERROR).value
        return ended, gettext(
            "ended with exit status {status} before its verdict", status=point.status
        )
    if files.config.exists():
        return UNFINISHED, gettext("started, but has no verdict")
    return NOT_RUN, gettext("not started")


def _compared(points: tuple[SweptPoint, ...]) -> tuple[MetricId, ...]:
    """The judged metrics; where there are none, the first of each task."""
    judged = [
        name
        for point in points
        for name, metric in point.metrics.items()
        if metric.baseline is not None
    ]
    if judged:
        return tuple(dict.fromkeys(judged))
    first = [
        MetricId(result.task, result.metric, result.filter)
        for point in points
        for task in (point.outcome.tasks if point.outcome is not None else ())
        for result in task.metrics[:1]
    ]
    return tuple(dict.fromkeys(first))
