"""Refuse, before anything heavy, what cannot work. Every problem is named, not only the first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner.config.rules import AUTO
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.inputs import sources
from runner.inputs.weights import Weights, find_weights, takes_images
from runner.platforms import PLATFORMS, Platform, compatibility
from runner.platforms.ascend import Ascend
from runner.platforms.base import installed_version
from runner.preflight import ascend, layout, memory, store, transformers
from runner.tracking.records import experiment_of

# Read in vllm 0.23.0 (vllm/envs.py).
RAY_VARIABLES = "VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"


@dataclass
class Findings:
    """What was seen before anything started; `config` has every place in it as it was found."""

    config: RunConfig
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    weights: Weights | None = None
    source: sources.Found | None = None
    # Variables for the worker alone.
    environment: dict[str, str] = field(default_factory=dict)
    # What a device must hold, in words; empty where the weights are not here to be looked at.
    memory: str = ""


def look(config: RunConfig) -> Findings:
    """Look at platform, weights, layout, memory, data and tracking; start and change nothing."""
    found = Findings(config)
    missing: tuple[str, ...] = ()
    try:
        found.source = sources.find(config)
        found.config = config = sources.settled(config, found.source)
        found.weights = find_weights(config)
    except UserError as error:
        missing = error.problems
    found.config = config = _settle_backend(config, found.weights)
    _platform(config, found)  # a machine that cannot run it at all is the first thing to say
    found.problems += missing
    if found.source is not None:
        found.environment |= found.source.environment
    if found.weights is not None:
        found.problems += layout.problems(config, found.weights.config)
        _memory(config, found)
    found.problems += _data_problems(config)
    experiment = experiment_of(config)
    unusable = store.problems(config.tracking, experiment)
    found.problems += unusable
    found.warnings += [] if unusable else store.warnings(config.tracking, experiment)
    return found


def _settle_backend(config: RunConfig, weights: Weights | None) -> RunConfig:
    if config.model.backend != AUTO:
        return config
    backend = "vllm-vlm" if weights is not None and takes_images(weights) else "vllm"
    return replace(config, model=replace(config.model, backend=backend))


def ranks(config: RunConfig) -> int:
    """Devices that one engine takes: tp×pp×dp."""
    return config.parallelism.tp * config.parallelism.pp * config.parallelism.dp


def spans_nodes(config: RunConfig) -> bool:
    """Whether Ray places the engine's ranks, on this node and on others."""
    return config.engine.extra.get("distributed_executor_backend") == "ray"


def _platform(config: RunConfig, found: Findings) -> None:
    platform = PLATFORMS[config.engine.platform]
    if config.engine.runtime == "transformers":
        _transformers(config, platform, found)
        return
    missing = platform.missing()
    found.problems += [f"engine={platform.name}: {line}" for line in missing]
    if config.parallelism.dp > 1:
        found.problems.append(
            f"parallelism.dp={config.parallelism.dp}: lm-eval starts such engines in Ray tasks of "
            "its own, out of the runner's reach, and where there are no GPUs it waits for them for "
            "ever; use dp=1, with a larger tp, or points side by side (hydra/launcher=ray)"
        )
    if missing:
        return
    variables = {**os.environ, **config.engine.env}
    if isinstance(platform, Ascend):
        _ascend(config, platform, variables, found)
    here = 0 if spans_nodes(config) else ranks(config)
    try:
        found.environment = platform.worker_environment(
            here,
            variables,
            memory_share=config.engine.gpu_memory_utilization,
            eager=config.engine.enforce_eager,
        )
    except UserError as error:
        if not isinstance(platform, Ascend):  # whose own rules have said it already
            found.problems += error.problems
    if spans_nodes(config) and config.engine.env:
        # vLLM's Ray executor hands VLLM_*, HF_* and few others on: the rest it must be told.
        told = variables.get(RAY_VARIABLES, "").split(",")
        names = sorted({*config.engine.env, *filter(None, told)} - {RAY_VARIABLES})
        found.environment[RAY_VARIABLES] = ",".join(names)


def _transformers(config: RunConfig, platform: Platform, found: Findings) -> None:
    missing = transformers.missing(config, platform)
    found.problems += [f"engine=transformers: {line}" for line in missing]
    found.problems += transformers.problems(config, found.weights)
    if not missing:
        variables = platform.worker_environment(1, {**os.environ, **config.engine.env})
        found.environment = {k: v for k, v in variables.items() if not k.startswith("VLLM_")}


def _ascend(
    config: RunConfig, platform: Ascend, variables: Mapping[str, str], found: Findings
) -> None:
    machine = platform.machine()
    found.problems += ascend.problems(config, found.weights, machine, variables)
    found.warnings += ascend.warnings(variables)
    packages = {
        name: version for name in compatibility.PACKAGES if (version := installed_version(name))
    }
    mismatches = compatibility.problems(packages, machine.versions["cann"])
    if config.engine.allow_untested:
        found.warnings += mismatches
    else:
        found.problems += mismatches
    found.warnings += compatibility.notes(packages, machine.versions["cann"])


def _memory(config: RunConfig, found: Findings) -> None:
    assert found.weights is not None
    platform = PLATFORMS[config.engine.platform]
    variables = {**os.environ, **config.engine.env}
    needed = memory.needed(config, found.weights, platform.devices(variables))
    found.memory = needed.words
    found.problems += needed.problems


def _data_problems(config: RunConfig) -> list[str]:
    problems = []
    for key, value in (
        ("task.data_dir", config.task.data_dir),
        ("task.include_path", config.task.include_path),
    ):
        if value is not None and not Path(value).expanduser().is_dir():
            problems.append(f"{key}={value}: no such directory")
        elif value is not None and not any(Path(value).expanduser().iterdir()):
            problems.append(f"{key}={value}: the directory is empty")
    return problems
