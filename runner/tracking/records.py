"""What MLflow shows of a run: parameters, metrics and tags, in names that it takes."""

from __future__ import annotations

import os
import re
from typing import Any

from runner.config import RunConfig
from runner.environment import Environment
from runner.outcome import Outcome
from runner.plan import Plan
from runner.rundir import RunDirectory
from runner.verdict import Status, Verdict

# What MLflow allows in a metric's name besides letters and digits, its slashes apart.
NOT_IN_NAMES = re.compile(r"[^\w\-. :]")


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
        "margin": config.verdict.margin,
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
        task = in_name(metric.task)
        parts = [task, in_name(metric.metric)]
        base = "/".join(parts if metric.filter == "none" else [*parts, in_name(metric.filter)])
        beside: dict[str, float | None] = {"": metric.value, "_stderr": metric.stderr}
        if metric.task in asked:
            beside["_n"] = float(metric.n)
            beside["_low"], beside["_high"] = metric.interval or (None, None)
        if metric.judged:
            beside["_passed"] = float(metric.status is Status.PASSED)
            beside["_baseline"] = metric.baseline
            beside["_difference"] = metric.difference
            beside["_p"] = metric.p
        found |= {f"{base}{end}": value for end, value in beside.items() if value is not None}
        if metric.judged:
            passed = metric.status is Status.PASSED
            found[f"{task}/passed"] = min(found.get(f"{task}/passed", 1.0), float(passed))
            if metric.baseline is not None:
                found.setdefault(f"{task}/baseline", metric.baseline)
    found |= {
        f"{in_name(task.task)}/unparsable": task.unparsable / task.evaluated
        for task in outcome.tasks
        if task.evaluated
    }
    found |= {f"perf/{name}": value for name, value in outcome.timings.items()}
    seconds = sum(task.seconds for task in outcome.tasks)
    if seconds > 0:
        tokens = sum(task.output_tokens for task in outcome.tasks)
        samples = sum(task.evaluated for task in outcome.tasks)
        found["perf/output_tokens_per_s"] = tokens / seconds
        found["perf/samples_per_s"] = samples / seconds
    return found


def in_name(part: str) -> str:
    """A part of a metric's name, which MLflow takes for a part of a path."""
    return re.sub(r"^\.+|^$", "_", NOT_IN_NAMES.sub("_", part))


def tags(
    run: RunDirectory, plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> dict[str, str]:
    """What a team filters its runs by."""
    values = {
        "verdict": verdict.status.value,
        "reason": verdict.reason,
        "retries": str(len(outcome.retries)),
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
    if verdict.reference is not None:
        used = verdict.reference
        values |= {"reference": used.name, "reference_run": used.run_id or used.directory}
        values["reference_engine_fingerprint"] = used.engine_fingerprint
        values["reference_platform"] = used.platform
    if environment.platform == "ascend":
        values |= {"series": environment.series, "hbm": environment.memory}
    values |= {f"prompts.{in_name(task.task)}": task.prompt_digest for task in outcome.tasks}
    values |= {f"version.{name}": version for name, version in environment.packages.items()}
    values |= {f"version.{name}": version for name, version in environment.toolkit.items()}
    return {name: value[:5000] for name, value in values.items()}
