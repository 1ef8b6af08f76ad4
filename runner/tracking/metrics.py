"""A run's numbers in MLflow: a few metrics, and a table with the details."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from runner.outcome import MetricResult, Outcome, TaskOutcome
from runner.served import Served, Speculation
from runner.status import Status
from runner.tracking.names import in_name
from runner.verdict import MetricVerdict, Verdict
from runner.visible import visible

TABLE = "task,metric,filter,value,stderr,low95,high95,n,baseline,difference,p,verdict,reason"
# Judged metrics that are columns of the view of all runs.
COLUMN_METRICS = 3


def metrics(outcome: Outcome, verdict: Verdict) -> dict[str, float]:
    """Return metrics such as `mmmu_val/acc` with errors, and `perf/…` for the run.

    Few enough to choose columns from; `table` has the rest.
    """
    found: dict[str, float] = {}
    asked = {task.task for task in outcome.tasks}
    for metric in verdict.metrics:
        base = metric_name(metric)
        beside: dict[str, float | None] = {"": metric.value}
        if metric.judged or metric.task in asked:
            beside["_stderr"] = metric.stderr
        if metric.judged:
            beside["_difference"] = metric.difference
        found |= {f"{base}{end}": value for end, value in beside.items() if value is not None}
        if metric.judged:
            task, passed = in_name(metric.task), metric.status is Status.PASSED
            found[f"{task}/passed"] = min(found.get(f"{task}/passed", 1.0), float(passed))
            if metric.baseline is not None:
                found.setdefault(f"{task}/baseline", metric.baseline)
    for each in outcome.tasks:
        if each.evaluated:
            name = in_name(each.task)
            found[f"{name}/unparsable"] = each.unparsable / each.scored
            found[f"{name}/degenerate"] = each.degenerate_answers / (each.answers or each.scored)
            found |= _repeated(each)
    found |= {f"perf/{name}": value for name, value in outcome.timings.items()}
    if outcome.feeding is not None:
        shares = {"stepping": outcome.feeding.stepping, "queued": outcome.feeding.queued}
        found |= {f"perf/engine_{k}": share for k, share in shares.items() if share is not None}
    if outcome.served is not None:
        found |= _served(outcome.served)
    work = outcome.served.work if outcome.served is not None else None
    found |= _speculation(work.speculation if work is not None else outcome.speculation)
    seconds = sum(task.seconds for task in outcome.tasks)
    if seconds > 0:
        tokens = sum(task.output_tokens for task in outcome.tasks)
        samples = sum(task.scored for task in outcome.tasks)
        found["perf/output_tokens_per_s"] = tokens / seconds
        found["perf/samples_per_s"] = samples / seconds
    return found


def _repeated(task: TaskOutcome) -> dict[str, float]:
    """What several samples of each question show, and the share of answers that were cut."""
    found: dict[str, float | None] = {}
    for metric in task.metrics:
        if metric.task != task.task or (repeated := metric.repeated) is None:
            continue
        found[f"{in_name(task.task)}/cut"] = task.cut_answers / (task.answers or task.scored)
        parts = [in_name(task.task), in_name(metric.metric)]
        base = "/".join(parts if metric.filter == "none" else [*parts, in_name(metric.filter)])
        k = repeated.samples
        found |= {
            f"{base}_pass_at_{k}": (repeated.passed or {}).get(k),
            f"{base}_maj_at_{k}": repeated.majority,
            f"{base}_always": repeated.always,
            f"{base}_never": repeated.never,
        }
    return {name: value for name, value in found.items() if value is not None}


def _served(served: Served) -> dict[str, float]:
    found: dict[str, float | None] = {"perf/retried_requests": sum(served.retried.values())}
    if served.latency is not None:
        found |= {f"perf/latency_{name}_s": value for name, value in vars(served.latency).items()}
    if served.first_token is not None:
        found["perf/first_token_p50_s"] = served.first_token.p50
        found["perf/first_token_p90_s"] = served.first_token.p90
    if served.speed is not None:
        speeds = vars(served.speed).items()
        found |= {f"perf/request_tokens_per_s_{name}": value for name, value in speeds}
    if (work := served.work) is not None:
        found |= {
            "perf/first_token_s": work.first_token_s,
            "perf/later_token_s": work.later_token_s,
            "perf/preemptions": work.preemptions,
            "perf/prefix_hit_rate": work.prefix_hit_rate,
        }
    return {name: float(value) for name, value in found.items() if value is not None}


def _speculation(speculation: Speculation | None) -> dict[str, float]:
    """The acceptance of drafted tokens; empty if there were none."""
    if speculation is None:
        return {}
    rate, length = speculation.acceptance_rate, speculation.accepted_length
    found = {"perf/acceptance_rate": rate, "perf/accepted_length": length}
    return {name: value for name, value in found.items() if value is not None}


def metric_name(metric: MetricVerdict | MetricResult) -> str:
    """Return `mmmu_val/acc`, or `gsm8k/exact_match/strict-match`."""
    parts = [in_name(metric.task), in_name(metric.metric)]
    return "/".join(parts if metric.filter == "none" else [*parts, in_name(metric.filter)])


def details(outcome: Outcome, verdict: Verdict) -> dict[str, str]:
    """Return what `python -m runner.history` shows beside the values, as JSON by task.

    For each metric of the task itself: `n`, `interval`, `tolerated`, `higher_is_better`, `judged`.
    """
    directions = {
        metric_name(metric): metric.higher_is_better
        for task in outcome.tasks
        for metric in task.metrics
    }
    found: dict[str, dict[str, Any]] = {each.task: {} for each in outcome.tasks}
    for metric in verdict.metrics:
        if metric.task in found:
            name = metric_name(metric)
            found[metric.task][name] = {
                "n": metric.n,
                "interval": metric.interval,
                "tolerated": metric.tolerated,
                # Metrics of the rules themselves are differences.
                "higher_is_better": directions.get(name, False),
                "judged": metric.judged,
            }
    return {in_name(task): json.dumps(metrics) for task, metrics in found.items() if metrics}


def lower_is_better(outcome: Outcome) -> list[str]:
    """Return names such as `word_perplexity`, without the task, of which smaller is better."""
    names = {
        metric_name(metric).partition("/")[2]
        for task in outcome.tasks
        for metric in task.metrics
        if metric.higher_is_better is False
    }
    return sorted(names)


def table(verdict: Verdict) -> str:
    """Return a CSV with one row per metric: value, interval, baseline and verdict."""
    text = io.StringIO(f"{TABLE}\n")
    text.seek(0, io.SEEK_END)
    rows = csv.writer(text, lineterminator="\n")
    for metric in verdict.metrics:
        low, high = metric.interval or (None, None)
        rows.writerow(
            [
                *(visible(text) for text in (metric.task, metric.metric, metric.filter)),
                *(metric.value, metric.stderr, low, high, metric.n),
                *(metric.baseline, metric.difference, metric.p),
                *(metric.status.value, visible(metric.reason)),
            ]
        )
    return text.getvalue()


def columns(outcome: Outcome, verdict: Verdict) -> tuple[str, ...]:
    """Return the columns of the run table: results first, then settings."""
    sent = metrics(outcome, verdict)
    judged = [metric_name(each) for each in verdict.metrics if each.judged]
    numbers = [name + end for name in judged[:COLUMN_METRICS] for end in ("", "_difference")]
    return (
        "tags.verdict",
        *(f"metrics.{name}" for name in numbers if name in sent),
        *("params.model", "tags.layout", "tags.dtype", "params.limit"),
    )
