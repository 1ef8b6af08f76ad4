"""A finished run directory → one flat MLflow run. A copy: nothing here can change a verdict."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runner.config import RunConfig
from runner.environment import Environment
from runner.outcome import Outcome
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json
from runner.verdict import Status, Verdict

MLFLOW_STATUS = {Status.ERROR: "FAILED", Status.INTERRUPTED: "KILLED"}
# MLflow's own defaults wait four minutes for a server that is away.
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# What MLflow allows in a metric's name besides letters and digits, its slashes apart.
NOT_IN_NAMES = re.compile(r"[^\w\-. :]")


@dataclass(frozen=True)
class TrackedRun:
    """Where MLflow keeps the run."""

    uri: str
    experiment: str
    experiment_id: str
    run_id: str


def track(
    run: RunDirectory,
    config: RunConfig,
    plan: Plan,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
    started_ms: int,
    ended_ms: int,
) -> TrackedRun:
    """Record parameters, metrics, tags and the whole directory; raises what MLflow raises."""
    for name, value in IMPATIENT.items():
        os.environ.setdefault(name, value)
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    # The first use of a store reports every table that it creates.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)

    client = mlflow.MlflowClient(tracking_uri=config.tracking.uri)
    experiment = config.tracking.experiment or "+".join(config.task.names)
    experiment_id = _experiment(
        client, experiment, _artifact_location(config.tracking.uri, experiment)
    )
    created = client.create_run(
        experiment_id,
        start_time=started_ms,
        run_name=f"{plan.model} {config.sweep.point or plan.parallel_mode}",
    )
    run_id = created.info.run_id
    labels = tags(run, plan, environment, outcome, verdict)
    if config.sweep.id is not None:
        labels["sweep"] = config.sweep.id
    try:
        client.log_batch(
            run_id,
            metrics=[
                Metric(name, value, ended_ms, 0)
                for name, value in metrics(outcome, verdict).items()
            ],
            params=[Param(k, v) for k, v in parameters(config, plan).items()],
            tags=[RunTag(name, value) for name, value in labels.items()],
        )
        client.log_artifacts(run_id, str(run.path))
    except BaseException:
        client.set_terminated(run_id, status="FAILED", end_time=ended_ms)
        raise
    client.set_terminated(
        run_id, status=MLFLOW_STATUS.get(verdict.status, "FINISHED"), end_time=ended_ms
    )
    return TrackedRun(config.tracking.uri, experiment, experiment_id, run_id)


def _artifact_location(uri: str, experiment: str) -> str | None:
    """Beside a local store, whatever the working directory is; a server has its own place."""
    if not uri.startswith("sqlite:///"):
        return None
    store = Path(uri.removeprefix("sqlite:///")).resolve()
    return (store.parent / "mlruns" / _in_name(experiment)).as_uri()


def _experiment(client: Any, name: str, artifact_location: str | None) -> str:
    """The experiment's id, made if missing; another process may make it at the same moment."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifact_location))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def parameters(config: RunConfig, plan: Plan) -> dict[str, str]:
    """Short names of what differs between the points of a sweep."""
    args = plan.engine_args
    values: dict[str, Any] = {
        "model": plan.model,
        "pretrained": args["pretrained"],
        "backend": plan.backend,
        "task": "+".join(each.task for each in plan.evaluations),
        "platform": plan.platform,
        "tp": config.parallelism.tp,
        "pp": config.parallelism.pp,
        "dp": config.parallelism.dp,
        "ep": config.parallelism.ep,
        "max_model_len": config.engine.max_model_len,
        "dtype": config.engine.dtype,
        "quantization": config.engine.quantization,
        "enforce_eager": config.engine.enforce_eager,
        "gpu_memory_utilization": config.engine.gpu_memory_utilization,
        "seed": config.task.seed,
        "rule": config.verdict.rule,
        "rtol": config.verdict.rtol,
    }
    for setting in ("num_fewshot", "limit", "batch_size", "apply_chat_template"):
        each = [getattr(evaluation, setting) for evaluation in plan.evaluations]
        values[setting] = "+".join(dict.fromkeys(map(str, each)))
    values |= {f"extra.{name}": value for name, value in config.engine.extra.items()}
    values |= {f"additional_config.{k}": v for k, v in config.engine.additional_config.items()}
    values |= {f"env.{name}": value for name, value in config.engine.env.items()}
    return {name: str(value) for name, value in values.items()}


def metrics(outcome: Outcome, verdict: Verdict) -> dict[str, float]:
    """`mmmu_val/acc` and what stands beside it, less for subtasks; `perf/…` for the whole run."""
    found: dict[str, float] = {}
    asked = {task.task for task in outcome.tasks}
    for metric in verdict.metrics:
        task = _in_name(metric.task)
        parts = [task, _in_name(metric.metric)]
        base = "/".join(parts if metric.filter == "none" else [*parts, _in_name(metric.filter)])
        beside: dict[str, float | None] = {"": metric.value, "_stderr": metric.stderr}
        if metric.task in asked:
            beside["_n"] = float(metric.n)
            beside["_low"], beside["_high"] = metric.interval or (None, None)
        if metric.baseline is not None:
            beside["_passed"] = float(metric.status is Status.PASSED)
            beside["_baseline"] = metric.baseline
            beside["_difference"] = metric.difference
        found |= {f"{base}{end}": value for end, value in beside.items() if value is not None}
        if metric.baseline is not None:
            passed = metric.status is Status.PASSED
            found[f"{task}/passed"] = min(found.get(f"{task}/passed", 1.0), float(passed))
            found.setdefault(f"{task}/baseline", metric.baseline)
    found |= {f"perf/{name}": value for name, value in outcome.timings.items()}
    seconds = sum(task.seconds for task in outcome.tasks)
    if seconds > 0:
        tokens = sum(task.output_tokens for task in outcome.tasks)
        samples = sum(task.evaluated for task in outcome.tasks)
        found["perf/output_tokens_per_s"] = tokens / seconds
        found["perf/samples_per_s"] = samples / seconds
    return found


def _in_name(part: str) -> str:
    """A part of a metric's name, which MLflow takes for a part of a path."""
    return re.sub(r"^\.+|^$", "_", NOT_IN_NAMES.sub("_", part))


def tags(
    run: RunDirectory, plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> dict[str, str]:
    """What a team filters its runs by."""
    values = {
        "verdict": verdict.status.value,
        "reason": verdict.reason,
        "engine_fingerprint": plan.engine_fingerprint,
        "evaluation_fingerprint": plan.evaluation_fingerprint,
        "chip": environment.chip,
        "python": environment.python,
        "run_directory": str(run.path.resolve()),
        "project_commit": environment.project_commit or "unknown",
        "mlflow.source.name": "python -m runner",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": os.environ.get("USER") or str(os.getuid()),
        "mlflow.note.content": run.report.read_text(encoding="utf-8"),
    }
    if environment.platform == "ascend":
        values |= {"series": environment.series, "hbm": environment.memory}
    values |= {f"prompts.{_in_name(task.task)}": task.prompt_digest for task in outcome.tasks}
    values |= {f"version.{name}": version for name, version in environment.packages.items()}
    values |= {f"version.{name}": version for name, version in environment.toolkit.items()}
    return {name: value[:5000] for name, value in values.items()}


def retire(run: RunDirectory) -> None:
    """A run that another attempt replaces no longer counts as its sweep's point.

    A store that is away is left as it is: the comparison reads directories, not MLflow.
    """
    if not run.tracked.exists():
        return
    tracked: TrackedRun = read_json(run.tracked, TrackedRun)
    for name, value in IMPATIENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=tracked.uri)
    with suppress(Exception):
        sweep = client.get_run(tracked.run_id).data.tags["sweep"]
        client.set_tag(tracked.run_id, "sweep_earlier", sweep)
        client.delete_tag(tracked.run_id, "sweep")


def run_page(tracked: TrackedRun) -> str:
    """The run's page: on the server, or on the UI that `mlflow ui` starts for a local store."""
    server = tracked.uri if tracked.uri.startswith("http") else "http://127.0.0.1:5000"
    return (
        f"{server.rstrip('/')}/#/experiments/{quote(tracked.experiment_id)}"
        # Without it the UI opens its GenAI view.
        f"/runs/{quote(tracked.run_id)}?workflowType=machine_learning"
    )
