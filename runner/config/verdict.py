"""The schema of `verdict` and its validation rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.config.metric_limits import LIMITS

# Against a number that is written down; against another run.
BASELINE_RULES = ("isclose", "not_worse")
REFERENCE_RULES = ("paired", "numerics", "replay")
# Rules that compare with several reference runs at once; the others take one.
POOLING_RULES = ("paired",)
# Rules that judge whole answers, so they can't be chosen for a single metric.
OF_ANSWERS = ("numerics", "replay")
RULES = (*BASELINE_RULES, *REFERENCE_RULES)
WAYS = ("decode", "prefill")
CORRECTIONS = ("holm", "none")
# Fewest questions that `numerics` and `replay` judge by noise: with fewer, one of them decides.
FEWEST_QUESTIONS = 20
# Rules that can stop a run.
SEQUENTIAL = ("not_worse", "paired", "replay")
# Values of `cluster` that name no field of the documents.
NO_FIELD = ("subject", "none")


@dataclass
class NumericsConfig:
    """Settings of the rule numerics: noise, and limits in nats that count only if they are set."""

    noise: list[str] | None = field(default_factory=list)
    """Ordinary runs on correct stacks; []: those stored with the reference; null: none."""
    factor: float = 3.0
    """Limit of the difference, as a multiple of the noise; 1 or more."""
    median: float | None = None
    """Largest median difference of log-probabilities, in nats; null: no limit."""
    p99: float | None = None
    """Largest 99th percentile of the differences, in nats; null: no limit."""
    worst: float | None = None
    """Largest single difference, in nats; null: no limit."""
    differing: float | None = None
    """Largest share of answers that differ although not at a near-tie; null: no limit."""
    near_tie: float = 0.25
    """Lead over the next best token, in nats, below which rounding may flip an answer."""


@dataclass
class ReplayConfig:
    """Settings of the rule replay."""

    noise: list[str] | None = field(default_factory=list)
    """Replays on correct stacks; []: those that MLflow stores with the reference; null: none."""
    factor: float = 3.0
    """Limit of the difference, as a multiple of the noise; 1 or more."""
    way: str = "decode"
    """decode: the engine generates each token; prefill: it scores each answer in one step."""
    questions: dict[str, list[int]] = field(default_factory=dict)
    """Documents to replay, by task (a group's subtask): {gsm8k: [3, 17]}; {}: all."""
    draw: int | None = None
    """Number of questions of each task to replay, drawn at random, 20 or more; null: all."""

    @property
    def chosen(self) -> str:
        """The key that leaves out questions; empty if none does."""
        found = [name for name in ("questions", "draw") if getattr(self, name)]
        return f"verdict.replay.{found[0]}" if found else ""


@dataclass
class MetricRuleConfig:
    """Overrides for one metric; null takes the value of `verdict`."""

    rule: str | None = None
    """Rule for this metric; null: `verdict.rule`."""
    rtol: float | None = None
    """Relative tolerance for this metric, below 1; null: `verdict.rtol`."""
    margin: float | None = None
    """Tolerated drop for this metric, below its largest; null: `verdict.margin`."""
    higher_is_better: bool | None = None
    """Whether higher values are better; null: what lm-eval defines."""


@dataclass
class VerdictConfig:
    """The rule that judges a metric against its baseline or a reference run."""

    rule: str = "isclose"
    """How a run is judged: isclose, not_worse, paired, numerics or replay."""
    rtol: float = 0.05
    """isclose: relative tolerance, below 1."""
    margin: float = 0.02
    """not_worse, paired: tolerated drop, in the unit of the metric, below 1."""
    reference: Any = None
    """Reference run: directory, MLflow run id or alias NAME@model/task; paired: also a list."""
    cluster: str = "subject"
    """Clusters of correlated samples: subject, none, or a field of the documents."""
    correction: str = "holm"
    """Correction of p values if several metrics are tested: holm or none."""
    numerics: NumericsConfig = field(default_factory=NumericsConfig)
    """Noise and limits of the rule numerics."""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    """Noise and limit of the rule replay."""
    # As with model.baselines, `load` makes it dict[task, dict[metric, dict[filter, ...]]].
    metrics: dict[str, Any] = field(default_factory=dict)
    """Settings for single metrics: {task: {metric: {filter: {margin: 0.05}}}}."""
    sequential: bool = False
    """Whether to ask in random order and stop when the questions asked are enough for a verdict."""
    require_baseline: bool = True
    """Whether a run without any baseline exits with 4 (true) or 0 (false)."""
    allow_partial: bool = False
    """Whether a partial run (task.limit) can pass isclose and not_worse."""
    allow_degenerate: bool = False
    """Whether a run with many degenerate answers (repeated, garbled or empty text) can pass."""
    allow_cut: bool = False
    """Whether a run can pass in which the token limit stopped more than 5 % of the answers."""
    allow_reference: bool = False
    """Whether a run can pass against one that FAILED, has no verdict or is of another model."""

    @property
    def references(self) -> list[str]:
        """The reference runs, also if `reference` is one run and no list."""
        named = self.reference if isinstance(self.reference, list) else [self.reference]
        return [str(each) for each in named if each not in (None, "")]

    @property
    def by_noise(self) -> dict[str, NumericsConfig | ReplayConfig]:
        """The settings of the rules that judge by noise runs."""
        return {"numerics": self.numerics, "replay": self.replay}


def problems(verdict: VerdictConfig, tasks: Sequence[str]) -> list[str]:
    """Return a line for each violated rule; `tasks` are the tasks of the run."""
    found = [
        f"{key}={value}: must be one of {', '.join(allowed)}"
        for key, value, allowed in (
            ("verdict.rule", verdict.rule, RULES),
            ("verdict.correction", verdict.correction, CORRECTIONS),
            ("verdict.replay.way", verdict.replay.way, WAYS),
        )
        if value not in allowed
    ]
    found += _tolerances("verdict", verdict.rtol, verdict.margin)
    if 1 <= verdict.margin < math.inf:
        found.append(
            f"verdict.margin={verdict.margin}: must be below 1, the largest drop of a score "
            "between 0 and 1; for a metric with larger scores, set "
            "verdict.metrics.<task>.<metric>.<filter>.margin"
        )
    if verdict.rule == "replay" and verdict.metrics:
        found.append("verdict.metrics: a replay has no scores to judge; remove it")
    used = {verdict.rule}
    for task, metrics in verdict.metrics.items():
        if task not in tasks:
            known = ", ".join(tasks)
            found.append(f"verdict.metrics.{task}: not a task of this run; its tasks: {known}")
        for metric, filters in metrics.items():
            for name, own in filters.items():
                key = f"verdict.metrics.{task}.{metric}.{name}"
                found += _tolerances(key, own.rtol, own.margin)
                found += _too_wide(key, own.margin or 0.0, metric)
                if own.rule not in (None, *RULES) or own.rule in OF_ANSWERS:
                    allowed = ", ".join(rule for rule in RULES if rule not in OF_ANSWERS)
                    found.append(f"{key}.rule={own.rule}: must be one of {allowed}")
                used.add(own.rule or verdict.rule)
    for name in ("median", "p99", "worst", "differing", "near_tie"):
        limit = getattr(verdict.numerics, name)
        if limit is not None and not (math.isfinite(limit) and limit >= 0):
            found.append(f"verdict.numerics.{name}={limit}: must be a number, 0 or more")
    for rule, settings in verdict.by_noise.items():
        if not (math.isfinite(settings.factor) and settings.factor >= 1):
            found.append(f"verdict.{rule}.factor={settings.factor}: must be a number, 1 or more")
        if settings.noise and verdict.rule != rule:
            found.append(
                f"verdict.{rule}.noise: verdict.rule={verdict.rule} does not use it; set "
                f"verdict.rule={rule}"
            )
    if verdict.replay.chosen and verdict.rule != "replay":
        found.append(
            f"{verdict.replay.chosen}: verdict.rule={verdict.rule} does not replay; set "
            "verdict.rule=replay"
        )
    found += _not_drawn(verdict.replay)
    found += _not_sequential(verdict, used)
    found += _references(verdict, used)
    return found


def _not_drawn(replay: ReplayConfig) -> list[str]:
    """Problems of a draw of questions."""
    if replay.draw is None:
        return []
    if replay.draw < FEWEST_QUESTIONS:
        return [
            f"verdict.replay.draw={replay.draw}: must be {FEWEST_QUESTIONS} or more, because fewer "
            "questions are never enough for a verdict, or null for all questions"
        ]
    if replay.questions:
        return [
            "verdict.replay.draw and verdict.replay.questions both choose questions; set only one"
        ]
    return []


def _references(verdict: VerdictConfig, used: set[str]) -> list[str]:
    """Problems of `verdict.reference` for the rules that the run uses."""
    given = verdict.reference
    for each in given if isinstance(given, list) else [given]:
        if not isinstance(each, str | int | None) or isinstance(each, bool):
            return [
                f"verdict.reference={each}: must be a run directory, an MLflow run id or an alias; "
                "if it is a name that reads as something else, put it in quotes"
            ]
    found = []
    compares = not used.isdisjoint(REFERENCE_RULES)
    single = [rule for rule in REFERENCE_RULES if rule in used and rule not in POOLING_RULES]
    if len(verdict.references) > 1 and single:
        found.append(
            f"verdict.reference: {len(verdict.references)} runs are listed, but "
            f"verdict.rule={single[0]} compares with one; list one run, or use "
            f"{', '.join(POOLING_RULES)}, which takes a list"
        )
    if compares and not verdict.references:
        rule = next(rule for rule in REFERENCE_RULES if rule in used)
        found.append(
            f"verdict.reference: verdict.rule={rule} needs a run to compare with: a run directory, "
            "an MLflow run id, or an alias such as baseline@MODEL/TASK (python -m runner.promote)"
        )
    elif verdict.references and not compares:
        found.append(
            f"verdict.reference={', '.join(verdict.references)}: verdict.rule={verdict.rule} does "
            f"not compare with a run; use one of {', '.join(REFERENCE_RULES)}"
        )
    return found


def _not_sequential(verdict: VerdictConfig, used: set[str]) -> list[str]:
    """A line for each rule in use that can't stop a run early."""
    if not verdict.sequential:
        return []
    return [
        f"verdict.sequential=true: the rule {rule} can't stop a run early, because it is not a "
        f"test; use {', '.join(SEQUENTIAL)}, or set verdict.sequential=false"
        for rule in sorted(used.difference(SEQUENTIAL))
    ]


def _tolerances(key: str, rtol: float | None, margin: float | None) -> list[str]:
    found = []
    if rtol is not None and not (math.isfinite(rtol) and rtol >= 0):
        found.append(f"{key}.rtol={rtol}: must be a number, 0 or more")
    elif rtol is not None and rtol >= 1:
        found.append(
            f"{key}.rtol={rtol}: must be below 1; otherwise half the baseline passes, and no value "
            "is too high"
        )
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        found.append(f"{key}.margin={margin}: must be a number above 0")
    return found


def _too_wide(key: str, margin: float, metric: str) -> list[str]:
    """The problem of a margin that no drop of the metric can exceed."""
    if metric not in LIMITS:
        return []
    low, high = LIMITS[metric]
    return (
        [f"{key}.margin={margin}: must be below {high - low:g}, the largest drop of {metric}"]
        if margin >= high - low
        else []
    )
