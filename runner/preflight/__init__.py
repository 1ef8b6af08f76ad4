"""Check a configuration before anything heavy starts, and report every problem at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner.config.rules import AUTO
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.inputs import sources
from runner.inputs.weights import Weights, find_weights, takes_images
from runner.preflight import adapters, store, versions
from runner.preflight.here import Here
from runner.problem import with_cures_that_help
from runner.runtimes import runtime_of
from runner.tracking.records import experiment_of

__all__ = ["Findings", "look"]


@dataclass
class Findings:
    """The result of the checks; `config` has all paths resolved."""

    config: RunConfig
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    # Refusals that the user overruled with a switch of `engine`, each in one line.
    overruled: list[str] = field(default_factory=list)
    weights: Weights | None = None
    source: sources.Found | None = None
    # Variables for the worker alone.
    environment: dict[str, str] = field(default_factory=dict)
    # What a device must hold, in words; empty where the weights are not here to be looked at.
    memory: str = ""
    # What an engine that is already running says of itself.
    told: dict[str, str] = field(default_factory=dict)


def look(config: RunConfig) -> Findings:
    """Check platform, weights, layout, memory, data and tracking; start and change nothing."""
    found = Findings(config)
    missing: tuple[str, ...] = ()
    try:
        found.source = sources.find(config)
        found.config = config = sources.settled(config, found.source)
        found.weights = find_weights(config, runtime_of(config.engine.runtime).local)
    except UserError as error:
        missing = error.problems
    found.config = config = _settle_backend(config, found.weights)
    here = Here.of(config, found.weights)
    for problem in with_cures_that_help(config, here.problems):
        if problem.allowed(config.engine):
            found.overruled.append(f"{problem.what} ({problem.overruled_by})")
        else:
            found.problems.append(str(problem))
    # A machine that cannot run it at all was the first thing to say.
    found.problems += missing
    if not found.problems:
        try:
            found.told = runtime_of(config.engine.runtime).told(config)
        except UserError as error:
            found.problems += error.problems
        found.config = config = _settle_length(config, found.told)
    found.warnings += [f"overridden check: {line}" for line in found.overruled]
    found.warnings += here.warnings(config)
    found.warnings += versions.warnings(config)
    found.environment = here.environment(config)
    if found.source is not None:
        found.environment |= found.source.environment
    found.memory = here.memory(config)
    found.problems += adapters.problems(config)
    found.problems += _data_problems(config)
    experiment = experiment_of(config)
    unusable = store.problems(config.tracking, experiment)
    found.problems += unusable
    found.warnings += [] if unusable else store.warnings(config.tracking, experiment)
    return found


def _settle_length(config: RunConfig, told: Mapping[str, str]) -> RunConfig:
    """The configuration with the length of the server's model, if it sets none of its own."""
    if config.engine.max_model_len is not None or "max_model_len" not in told:
        return config
    return replace(config, engine=replace(config.engine, max_model_len=int(told["max_model_len"])))


def _settle_backend(config: RunConfig, weights: Weights | None) -> RunConfig:
    if config.model.backend != AUTO:
        return config
    backend = "vllm-vlm" if weights is not None and takes_images(weights) else "vllm"
    return replace(config, model=replace(config.model, backend=backend))


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
