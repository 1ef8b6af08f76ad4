"""One run of a history, from MLflow or from its directory: settings, versions and metrics."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.history.versions import versions
from runner.rundir import RunDirectory
from runner.status import FINAL
from runner.tracking.names import in_name
from runner.tracking.records import DETAILS, LOWER, SAMPLES, SETTINGS
from runner.tracking.settings import matters
from runner.tracking.stored import StoredRun

# Parameters that are not settings: they name the series, say where files are, or how it is judged.
ASIDE = (
    *("model", "task", "pretrained", "engine.python", "rule", "rtol", "margin"),
    *("allow_partial", "allow_degenerate", "allow_reference"),
)
# Of a run that has other work to do than one that generates its answers.
REPLAY = ("rule", "replay")
# Tags that tell series apart: another chip, another entry of a suite, and any other setting.
TELLING = ("chip", "suite_entry", SETTINGS)
# Where runner.why keeps the runs of its search.
PROBES = "probes"
# Why samples of a task were left out, of which the rest can't be compared with those of a night.
CHOSEN = ("verdict.sequential", "verdict.replay.questions", "verdict.replay.draw")
# Metrics of rules: differences from a reference run.
SHIFTS = ("logprob_shift", "replay")
PERPLEXITY = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
ENDINGS = ("_stderr", "_difference")
THROUGHPUT, SAMPLE_RATE = "perf/output_tokens_per_s", "perf/samples_per_s"
START, DEGENERATE = "perf/start_engine_s", "degenerate"
# An engine starts more slowly: a run that takes less used that of the run before.
REUSED_S = 1.0


@dataclass(frozen=True)
class Metric:
    """A value; `judged` metrics have a baseline or a rule, `main` ones are those of the task."""

    value: float
    n: int | None = None
    interval: tuple[float, float] | None = None
    tolerated: tuple[float | None, float | None] | None = None
    higher_is_better: bool = True
    judged: bool = False
    main: bool = False


@dataclass(frozen=True)
class Run:
    """A run; `name` is what a command is given for it: its directory, or its id in MLflow.

    `settings` are the same in all runs of a series, `versions` may change. `partial` are the tasks
    that stopped before all their questions were asked. `unmeasured` are metrics whose value is not
    a finite number.
    """

    name: str
    directory: Path | None
    started: float
    verdict: str
    model: str
    tasks: str
    settings: dict[str, str]
    versions: dict[str, str]
    metrics: dict[str, Metric]
    partial: frozenset[str]
    unmeasured: frozenset[str] = frozenset()

    @property
    def final(self) -> bool:
        """Return whether the run has completed and was judged."""
        return self.verdict in FINAL


def read_stored(stored: StoredRun) -> Run:
    """Return the run with its values; those that older versions did not record are missing."""
    params, tags = stored.params, stored.tags
    tasks = params.get("task", "")
    directory = _directory(stored)
    details = _details(tags)
    values = {name: value for name, value in stored.metrics.items() if _finite(value)}
    return Run(
        name=str(directory) if directory is not None else stored.run_id,
        directory=directory,
        started=stored.started_ms / 1000,
        verdict=tags.get("verdict", "ERROR"),
        model=params.get("model", ""),
        tasks=tasks,
        settings=dict(_settings(params, tags)),
        versions=dict(versions(tags)),
        metrics=dict(_metrics(values, tags, details, {in_name(each) for each in tasks.split("+")})),
        unmeasured=frozenset((*details, *stored.metrics)) - values.keys(),
        partial=frozenset(
            name.removeprefix(SAMPLES)
            for name, text in tags.items()
            if name.startswith(SAMPLES) and any(each in text for each in CHOSEN)
        ),
    )


def _directory(stored: StoredRun) -> Path | None:
    """The run's directory, if it is on this machine and still has the same run."""
    place = stored.tags.get("run_directory")
    if not place:
        return None
    files = RunDirectory(Path(place))
    if not stored.run_id:  # read from there
        return files.path
    try:
        tracked = json.loads(files.tracked.read_bytes())
        return files.path if tracked["run_id"] == stored.run_id else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _settings(params: Mapping[str, str], tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in params.items():
        if matters(name, value) and (name not in ASIDE or (name, value) == REPLAY):
            yield name, value
    for name in TELLING:
        if name in tags:
            yield name, tags[name]


def is_probe(stored: StoredRun) -> bool:
    """Return whether the run is part of a search of runner.why, and no night."""
    return Path(stored.tags.get("run_directory", "")).parent.name == PROBES


def _finite(value: float) -> bool:
    """Whether it is a finite number; MLflow's SQL stores keep infinity as the largest one."""
    return abs(value) < sys.float_info.max


def _details(tags: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    details: dict[str, dict[str, Any]] = {}
    for name, text in tags.items():
        if name.startswith(DETAILS):
            details |= json.loads(text)
    return details


def _metrics(
    values: Mapping[str, float],
    tags: Mapping[str, str],
    details: Mapping[str, dict[str, Any]],
    tasks: set[str],
) -> Iterator[tuple[str, Metric]]:
    # Without the task: a subtask has the metrics of its group.
    lower = {
        *(each for each in tags.get(LOWER, "").split(",") if each),
        *(_metric(name) for name, each in details.items() if each.get("higher_is_better") is False),
    }
    for name, value in values.items():
        if name == START and value < REUSED_S:
            continue
        if found := details.get(name):
            yield name, Metric(value, main=True, **_shown(found))
        else:
            older = _older(name, value, values, tasks)
            yield name, replace(older, higher_is_better=False) if _metric(name) in lower else older


def _metric(name: str) -> str:
    return name.partition("/")[2]


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    interval, tolerated = found.get("interval"), found.get("tolerated")
    return {
        "n": found.get("n"),
        "interval": tuple(interval) if interval else None,
        "tolerated": tuple(tolerated) if tolerated else None,
        "higher_is_better": found.get("higher_is_better") is not False,
        "judged": bool(found.get("judged")),
    }


def _older(name: str, value: float, values: Mapping[str, float], tasks: set[str]) -> Metric:
    """A value without details: of a subtask, of the run itself, or of an older version."""
    task, _, metric = name.partition("/")
    error = values.get(f"{name}_stderr")
    shift = metric.partition("/")[0] in (*SHIFTS, *PERPLEXITY)
    beside = any(f"{name}{ending}" in values for ending in ENDINGS)
    return Metric(
        value,
        interval=(value - 1.96 * error, value + 1.96 * error) if error is not None else None,
        higher_is_better=not (shift or metric == DEGENERATE or name == START),
        judged=f"{name}_difference" in values or (task in tasks and metric in SHIFTS),
        main=task in tasks and (beside or metric in SHIFTS),
    )
