"""Register conf/ with Hydra, and check a composed configuration against the schema."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config import keys, serving, task_files
from runner.config.notify import NotifyConfig
from runner.config.notify import problems as notify_problems
from runner.config.origins import baseline_origins
from runner.config.overrides import in_yaml
from runner.config.places import PACKAGE
from runner.config.places import config_directory as config_directory
from runner.config.rules import baseline_problems, problems
from runner.config.schema import AskConfig, RunConfig, SeriesConfig
from runner.config.suite import SuiteEntryConfig
from runner.config.suite import problems as suite_problems
from runner.config.usage import explain, required
from runner.config.verdict import MetricRuleConfig, VerdictConfig
from runner.errors import UserError
from runner.hub_ids import weights_name
from runner.interpreters import Interpreter
from runner.platforms import cuda_or_cpu, detect
from runner.platforms.additional_config import elsewhere, names, schema, settled

SQLITE = "sqlite:///"
_STRUCTURED: dict[type[Any], DictConfig] = {}


@cache
def register() -> None:
    """Register the schema and the resolvers with Hydra, once; call it before composing."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    OmegaConf.register_new_resolver("package_path", lambda path: str(PACKAGE / path), replace=True)
    OmegaConf.register_new_resolver("weights_name", weights_name, replace=True)
    OmegaConf.register_new_resolver("with_canary", _with_canary, replace=True)
    OmegaConf.register_new_resolver("if_thinking", _if_thinking, replace=True)
    OmegaConf.register_new_resolver("sweeps_in", _sweeps_in, replace=True)
    OmegaConf.register_new_resolver("tracking_uri", tracking_uri, replace=True)
    OmegaConf.register_new_resolver("detected_platform", lambda: detect().name, replace=True)
    OmegaConf.register_new_resolver("cuda_or_cpu", lambda: cuda_or_cpu().name, replace=True)
    OmegaConf.register_new_resolver(
        "by_platform",
        lambda platform, choices, otherwise: choices.get(platform, otherwise),
        replace=True,
    )
    keys.register()


def _with_canary(names: Sequence[str], below: str) -> str | None:
    """A directory of the canary's, where one of its tasks is asked."""
    tasks = {file.stem.lstrip("_") for file in (PACKAGE / "canary" / "tasks").glob("*.yaml")}
    return str(PACKAGE / below) if tasks & set(names) else None


def _if_thinking(enabled: bool | None, thinking: Any, otherwise: Any) -> Any:
    """One of two values; models that can do both think unless they are told not to."""
    return otherwise if enabled is False else thinking


def _sweeps_in(suite: str | None) -> str:
    """The directory of all sweeps, or of a suite's nights."""
    return "multirun" if suite is None else f"suites/{suite}"


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI if it is set and not empty, else mlflow.db in this directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd()}/mlflow.db"


def _anchored(uri: str) -> str:
    """A relative SQLite file as it reads from every directory: the run may be sent from another."""
    file = uri.removeprefix(SQLITE)
    return f"{SQLITE}{Path.cwd() / file}" if file and file != uri else uri


def load(composed: DictConfig) -> RunConfig:
    """Check the composed configuration against the schema and the rules, and return it typed.

    `+a.b=1` slips past Hydra's own check: the plain content is merged into the schema again.

    Raises:
        UserError: with one line for every key that is unknown, mistyped or out of range.
    """
    try:
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
        merged = OmegaConf.merge(_structured(RunConfig), plain)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise UserError(*map(required, missing))
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(config, RunConfig)
    config.task.names, files = task_files.named(config.task.names)
    config.task.files = {**config.task.files, **files}
    model = config.model
    model.ask = {
        task: _typed(AskConfig, value, f"model.ask.{task}") for task, value in model.ask.items()
    }
    model.by_series = {
        series: _typed(SeriesConfig, value, f"model.by_series.{series}")
        for series, value in model.by_series.items()
    }
    for where, given in (("engine", config.engine), ("model.serve", model.serve)):
        key = f"{where}.additional_config"
        given.additional_config = _options(given.additional_config, key, config.engine.interpreter)
    serving.settle(config)
    config.tracking.uri = _anchored(config.tracking.uri)
    broken = baseline_problems(model.baselines, "model.baselines")
    broken += _typed_overrides(config.verdict)
    for series, known in model.by_series.items():
        broken += baseline_problems(known.baselines, f"model.by_series.{series}.baselines")
    broken = broken or problems(config)
    if broken:
        raise UserError(*broken)
    model.origins = baseline_origins()
    return config


def entries_of(suite: DictConfig) -> dict[str, SuiteEntryConfig]:
    """Return the entries of a composed `suite`, typed and checked.

    Raises:
        UserError: with one line for every key that is unknown, mistyped or out of range.
    """
    try:
        plain = OmegaConf.to_container(suite, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(plain, dict)
    entries: dict[str, SuiteEntryConfig] = {}
    broken: list[str] = []
    for name, value in plain["entries"].items():
        if not isinstance(value, dict):
            broken.append(
                f"suite.entries.{name}={in_yaml(value)}: must have the form {{model: MODEL, task: "
                "TASK}"
            )
            continue
        try:
            entries[str(name)] = _typed(SuiteEntryConfig, value, f"suite.entries.{name}")
        except UserError as error:
            broken += error.problems
    if broken := broken or suite_problems(plain["name"], entries):
        raise UserError(*broken)
    return entries


def notify_of(suite: DictConfig) -> NotifyConfig:
    """Return `suite.notify` of a composed suite, checked.

    Raises:
        UserError: with one line for every value that is out of range.
    """
    try:
        notify = OmegaConf.to_object(suite.notify)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(notify, NotifyConfig)
    if broken := notify_problems(notify, os.environ):
        raise UserError(*broken)
    return notify


def _options(given: dict[str, Any], key: str, python: Interpreter) -> dict[str, Any]:
    """vllm-ascend's own, as the installed release knows them."""
    if not given:
        return {}
    installed = python.version("vllm-ascend")
    found = [f"{key}.{name}: {why}" for name in given if (why := elsewhere(name, installed))]
    if found:
        raise UserError(*found)
    known = schema(installed)
    try:
        return settled(_typed(known, given, key))
    except UserError as error:
        if names(known).issuperset(given):
            raise
        newer = (
            "for a key that only a newer vllm-ascend has, use engine.extra.additional_config with "
            "engine.allow_untested=true"
        )
        raise UserError(*(f"{line}; {newer}" for line in error.problems)) from error


def _typed_overrides(verdict: VerdictConfig) -> list[str]:
    """`verdict.metrics` typed in place; what is not nested deep enough is named."""
    problems = []
    for task, metrics in verdict.metrics.items():
        nested = isinstance(metrics, dict) and all(
            isinstance(filters, dict) and all(isinstance(own, dict) for own in filters.values())
            for filters in metrics.values()
        )
        if not nested:
            problems.append(
                f"verdict.metrics.{task}: must have the form <task>.<metric>.<filter>.rule=paired "
                "(or rtol, margin, higher_is_better); lm-eval's acc,none is acc.none"
            )
            continue
        for metric, filters in metrics.items():
            for name, own in filters.items():
                key = f"verdict.metrics.{task}.{metric}.{name}"
                filters[name] = _typed(MetricRuleConfig, own, key)
    return problems


def _structured(schema: type[Any]) -> DictConfig:
    """The schema with its defaults, to be merged into: merge copies it faster than it is built."""
    if schema not in _STRUCTURED:
        _STRUCTURED[schema] = OmegaConf.structured(schema)
    return _STRUCTURED[schema]


def _typed(schema: type[Any], value: Any, key: str) -> Any:
    """A value below an open mapping, as its own schema has it."""
    try:
        merged = OmegaConf.merge(_structured(schema), value)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise UserError(*(f"{key}.{name}: a value is required" for name in missing))
        return OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(explain(error, key)) from error
