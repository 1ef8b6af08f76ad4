"""Read a run's MLflow record from its directory only, so a late upload is identical."""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from dataclasses import dataclass, field
from typing import Any

from runner.channel.worker import read_events
from runner.config.schema import RunConfig
from runner.environment import Environment
from runner.outcome import Outcome
from runner.plan import Plan
from runner.rundir import EARLIER, RunDirectory, read_json
from runner.status import Status
from runner.tracking.metrics import columns, details, lower_is_better, metrics, table
from runner.tracking.names import in_name, key, line
from runner.tracking.settings import axes, settings_digest
from runner.verdict import Verdict
from runner.visible import visible

# Else FINISHED. In MLflow's table a run that FINISHED has a green mark.
MLFLOW_STATUS = {
    Status.FAILED.value: "FAILED",
    Status.ERROR.value: "FAILED",
    Status.INTERRUPTED.value: "KILLED",
}
# What a run that left no verdict is called; its process was killed.
UNFINISHED = Status.ERROR.value
KILLED_REASON = "the run's process ended before there was a verdict"
# The tag that a run is found again by, however much of it had arrived.
KEY = "run_key"
# Tags of a task begin so: digest of its prompts, number of its samples, details of its metrics.
PROMPTS, SAMPLES, DETAILS = "prompts.", "samples.", "details."
# The digest of all settings, of which the parameters show those that are often changed; metrics of
# which smaller values are better, also of subtasks.
SETTINGS, LOWER = "settings_digest", "lower_is_better"
# Of a tag (5000 in servers before 3.0), and of a parameter.
LONGEST_TAG = 5000
LONGEST_PARAM = 6000
# Characters of a data set's digest that fit in MLflow's table, which takes 36.
DIGEST = 16


@dataclass(frozen=True)
class Begun:
    """tracking.json: what is known of a run before its engine starts, and where it will be sent."""

    key: str
    uri: str
    experiment: str
    name: str
    timeout_s: float
    started_ms: int
    user: str
    host: str
    sweep: str | None
    params: dict[str, str]
    tags: dict[str, str]
    # Where the documents come from: a directory, or a hub.
    data: str = ""
    # Tags of an entry of a suite.
    suite: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """The documents that a task asked about: where they come from, how many, and their digest."""

    name: str
    digest: str
    source: str
    documents: int


@dataclass(frozen=True)
class Record:
    """Everything that MLflow gets of a run besides its files.

    `table` has what each metric's judgement rests on, as CSV; `columns` are those of the
    experiment's view of all runs.
    """

    begun: Begun
    name: str
    ended_ms: int
    status: str
    metrics: dict[str, float]
    tags: dict[str, str]
    table: str = ""
    datasets: tuple[DataSet, ...] = ()
    columns: tuple[str, ...] = ()


def begin(config: RunConfig, plan: Plan, environment: Environment, started_ms: int) -> Begun:
    """Return what is known of a run before its engine starts."""
    return Begun(
        key=uuid.uuid4().hex,
        uri=config.tracking.uri,
        experiment=experiment_of(config),
        name=line(f"{plan.model} {config.sweep.point or plan.parallel_mode}"),
        timeout_s=config.tracking.timeout_s,
        started_ms=started_ms,
        user=user(),
        host=socket.gethostname(),
        sweep=config.sweep.id,
        params=parameters(config, plan),
        tags=stack_tags(plan, environment)
        | {SETTINGS: settings_digest(plan, axes(plan, config.sweep.point or ""))},
        data=plan.data_dir or plan.data_source,
        suite=_suite(config),
    )


def _suite(config: RunConfig) -> dict[str, str]:
    """The night and the entry that a run belongs to; empty for any other run."""
    suite, night = config.suite, config.sweep.id
    if night is None or suite.name is None or suite.entry is None:
        return {}
    return {
        "suite": suite.name,
        "suite_id": night,
        "suite_entry": suite.entry,
        "tier": suite.tier or "",
    }


def experiment_of(config: RunConfig) -> str:
    """Return the configured experiment, or the task's."""
    return line(config.tracking.experiment or "+".join(config.task.names))


def read_record(run: RunDirectory) -> Record:
    """Return the run's record for MLflow; a run without a verdict was killed.

    Raises:
        OSError, ValueError: if a file is missing, or written by another version.
    """
    begun: Begun = read_json(run.tracking, Begun)
    if not run.verdict.exists():
        tags = _tags(run, begun, None, None)
        name = line(f"{tags['verdict']} {begun.name}")
        return Record(begun, name, _ended(run, begun), "KILLED", {}, tags)
    verdict: Verdict = read_json(run.verdict, Verdict)
    outcome: Outcome | None = read_json(run.outcome, Outcome) if run.outcome.exists() else None
    return Record(
        begun=begun,
        name=line(f"{verdict.status.value} {begun.name}"),
        ended_ms=_ended(run, begun),
        status=MLFLOW_STATUS.get(verdict.status.value, "FINISHED"),
        metrics=metrics(outcome, verdict) if outcome is not None else {},
        tags=_tags(run, begun, verdict, outcome),
        table=table(verdict),
        datasets=_datasets(outcome, begun) if outcome is not None else (),
        columns=columns(outcome, verdict) if outcome is not None else (),
    )


def _ended(run: RunDirectory, begun: Begun) -> int:
    """When the run last said something: files that are copied elsewhere lose their own times."""
    times = [int(event.time * 1000) for event in read_events(run.events)]
    return max([begun.started_ms, *times])


def parameters(config: RunConfig, plan: Plan) -> dict[str, str]:
    """Return the parameters under short names, including those that differ within a sweep."""
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
        "allow_partial": config.verdict.allow_partial,
        "allow_degenerate": config.verdict.allow_degenerate,
        "allow_reference": config.verdict.allow_reference,
    }
    if plan.python is not None:
        values["engine.python"] = plan.python
    # Most runs leave these as they are.
    seldom = {
        "runtime": plan.runtime if plan.runtime != "vllm" else None,
        "engine_seed": args.get("seed") or None,
        "enable_thinking": config.model.enable_thinking,
        "think_end_token": config.model.think_end_token,
        "system_instruction": config.task.system_instruction,
        "fewshot_as_multiturn": "+".join(
            dict.fromkeys(str(each.fewshot_as_multiturn) for each in plan.evaluations)
        ),
        **{f"chat_template_args.{k}": v for k, v in config.model.chat_template_args.items()},
        **axes(plan, config.sweep.point or ""),
    }
    values |= {name: value for name, value in seldom.items() if value is not None}
    for setting in ("num_fewshot", "limit", "batch_size", "apply_chat_template", "samples"):
        each = [getattr(evaluation, setting) for evaluation in plan.evaluations]
        values[setting] = "+".join(dict.fromkeys(map(str, each)))
    for name in dict.fromkeys(name for each in plan.evaluations for name in each.gen_kwargs):
        each = [evaluation.gen_kwargs.get(name) for evaluation in plan.evaluations]
        values[f"gen_kwargs.{name}"] = "+".join(dict.fromkeys(map(str, each)))
    values |= {f"extra.{name}": value for name, value in config.engine.extra.items()}
    values |= {f"additional_config.{k}": v for k, v in config.engine.additional_config.items()}
    values |= {f"env.{name}": value for name, value in config.engine.env.items()}
    return {key(name): visible(str(value))[:LONGEST_PARAM] for name, value in values.items()}


def _datasets(outcome: Outcome, begun: Begun) -> tuple[DataSet, ...]:
    return tuple(
        DataSet(line(task.task), task.data_digest[:DIGEST], begun.data, task.evaluated)
        for task in outcome.tasks
        if task.data_digest
    )


def stack_tags(plan: Plan, environment: Environment) -> dict[str, str]:
    """Return what a team filters its runs by, as far as it is known before the engine starts."""
    values = {
        "engine_fingerprint": plan.engine_fingerprint,
        "evaluation_fingerprint": plan.evaluation_fingerprint,
        "weights_digest": plan.weights,
        "chip": environment.chip,
        "python": environment.python,
        "project_commit": environment.project_commit or "unknown",
        "layout": plan.parallel_mode,
    }
    if plan.overruled:
        values["overruled"] = "; ".join(plan.overruled)
    if environment.project_commit:
        values["mlflow.source.git.commit"] = environment.project_commit
    if environment.platform == "ascend":
        values |= {"series": environment.series, "hbm": environment.memory}
    values |= {f"version.{name}": version for name, version in environment.packages.items()}
    values |= {f"version.{name}": version for name, version in environment.toolkit.items()}
    values |= {f"runner_version.{name}": version for name, version in environment.runner.items()}
    return values


def _tags(
    run: RunDirectory, begun: Begun, verdict: Verdict | None, outcome: Outcome | None
) -> dict[str, str]:
    values = begun.tags | {
        KEY: begun.key,
        "host": begun.host,
        "run_directory": str(run.path.resolve()),
        "verdict": UNFINISHED if verdict is None else verdict.status.value,
        "reason": KILLED_REASON if verdict is None else verdict.reason,
        "mlflow.source.name": "python -m runner",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": begun.user,
    }
    if run.report.exists():
        values["mlflow.note.content"] = run.report.read_text(encoding="utf-8")
    if run.command.exists():
        values["command"] = run.command.read_text(encoding="utf-8")
    if begun.sweep is not None:
        # A run that another attempt replaced no longer counts as its sweep's point.
        replaced = run.path.resolve().parent.name == EARLIER
        values["sweep_earlier" if replaced else "sweep"] = begun.sweep
        if not replaced:
            values |= begun.suite
    if verdict is not None and verdict.baseline_origin:
        values["baseline_origin"] = verdict.baseline_origin
    if verdict is not None and verdict.reference is not None:
        runs = verdict.reference.runs
        values["reference"] = ", ".join(each.name for each in runs)
        values["reference_run"] = ", ".join(each.run_id or each.directory for each in runs)
        for what in ("engine_fingerprint", "platform"):
            values[f"reference_{what}"] = ", ".join(dict.fromkeys(getattr(r, what) for r in runs))
    if outcome is not None:
        values["retries"] = str(len(outcome.retries))
        values["dtype"] = str(outcome.engine.get("dtype", begun.params.get("dtype", "")))
        values |= task_tags(outcome, verdict)
    return {key(name): visible(value)[:LONGEST_TAG] for name, value in values.items()}


def task_tags(outcome: Outcome, verdict: Verdict | None) -> dict[str, str]:
    """Return each task's prompts, how many samples it had of all, and details of its metrics."""
    values: dict[str, str] = {}
    for task in outcome.tasks:
        values[f"{PROMPTS}{in_name(task.task)}"] = task.prompt_digest
        if task.partial:
            limited = f"{task.expected} of {task.whole} ({task.left_out})"
            values[f"{SAMPLES}{in_name(task.task)}"] = limited
    if lower := lower_is_better(outcome):
        values[LOWER] = ",".join(lower)
    found = details(outcome, verdict) if verdict is not None else {}
    # Unless they are too long for a tag.
    return values | {
        f"{DETAILS}{task}": text for task, text in found.items() if len(text) <= LONGEST_TAG
    }


def user() -> str:
    """Return the user name that MLflow shows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return str(os.getuid())
