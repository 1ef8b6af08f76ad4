"""Settings, resolved engine values and environment that differ between two runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from runner.compare.sides import Side
from runner.environment import Environment
from runner.reference import requests

# Location and tracking do not affect the numbers.
ASIDE = (
    *("output_dir", "preflight_only", "objective", "tracking", "sweep", "suite", "verdict"),
    *("journal", "lang"),
)
OF_MODEL = ("model.baselines", "model.by_series", "model.source", "model.hardware", "model.serve")
IGNORED = (*ASIDE, *OF_MODEL, "limits", "source.dir", "source.verify")
# Duplicates: one long text of the other values, and the weights from the configuration.
ELSEWHERE = ("whole", "model")


@dataclass(frozen=True)
class Setting:
    """A key whose values differ; a missing value is empty."""

    key: str
    first: str
    second: str


@dataclass(frozen=True)
class Settings:
    """Differences in configuration, resolved engine values and environment."""

    configuration: tuple[Setting, ...]
    engine: tuple[Setting, ...]
    environment: tuple[Setting, ...]
    same_engine: bool
    same_evaluation: bool

    @property
    def count(self) -> int:
        return len(self.configuration) + len(self.engine) + len(self.environment)


def differences(first: Side, second: Side) -> Settings:
    """Return the values that differ, without those that cannot affect a number.

    `same_engine` and `same_evaluation` compare the fingerprints, which also cover the content of
    weights, tokenizer and data.
    """
    return Settings(
        configuration=_differ(_configuration(first), _configuration(second)),
        engine=_differ(_engine(first), _engine(second)),
        environment=_differ(_environment(first.environment), _environment(second.environment)),
        same_engine=first.plan.engine_fingerprint == second.plan.engine_fingerprint,
        same_evaluation=first.plan.evaluation_fingerprint == second.plan.evaluation_fingerprint,
    )


def other_requests(first: Side, second: Side) -> list[str]:
    """Return the settings that make answers in A and B answers to different requests.

    They are those that keep a run from being the reference of another (`verdict=paired`).
    """
    known = {each.task: vars(each) for each in first.plan.evaluations}
    return [
        *(
            line
            for each in second.plan.evaluations
            if each.task in known
            for line in requests.of_task(known[each.task], each, "A", "B")
        ),
        *requests.of_plan(vars(first.plan), second.plan, "A", "B"),
    ]


def _configuration(side: Side) -> dict[str, str]:
    """The composed configuration; the plan if there is no config.yaml."""
    if not side.config:
        plan = {
            key: value
            for key, value in asdict(side.plan).items()
            if "fingerprint" not in key and key not in ("unread", "code")
        }
        return dict(_flat(plan))
    return {
        key: value
        for key, value in _flat(side.config)
        if not any(key == aside or key.startswith(f"{aside}.") for aside in IGNORED)
    }


def _engine(side: Side) -> dict[str, str]:
    resolved = {key: value for key, value in side.outcome.engine.items() if key not in ELSEWHERE}
    return dict(_flat(resolved))


def _environment(found: Environment | None) -> dict[str, str]:
    if found is None:
        return {}
    packages = dict(line.partition("==")[::2] for line in found.pip_freeze)
    facts: dict[str, Any] = {
        "hardware": found.hardware,
        "platform": found.platform,
        "os": found.os,
        "cpu": found.cpu,
        "cores": found.cores,
        "python": found.python,
        **found.toolkit,
        "package": {**packages, **found.packages},
        "commit": {**found.commits, "ascend-accuracy-runner": found.project_commit},
        "code": found.edited,
        "variable": found.variables,
    }
    return dict(_flat(facts, joint=" "))


def _flat(value: Mapping[str, Any], above: str = "", joint: str = ".") -> Iterator[tuple[str, str]]:
    """`parallelism.tp`: `2`, for every value at the end of a path that is not empty."""
    for key, inner in value.items():
        name = f"{above}{key}"
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{name}{joint}", joint)
        elif inner not in (None, "", [], ()):
            yield name, _text(inner)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _differ(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[Setting, ...]:
    keys = dict.fromkeys([*first, *second])
    return tuple(
        Setting(key, first.get(key, ""), second.get(key, ""))
        for key in keys
        if first.get(key) != second.get(key)
    )
