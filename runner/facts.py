"""Collects what the plan needs to know about the machine, weights, code and data."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from runner.config.places import TASKS
from runner.config.schema import RunConfig
from runner.config.task_files import packaged
from runner.digest import (
    digest_data,
    digest_directories,
    digest_path,
    last_changes,
    last_changes_of_data,
)
from runner.environment import ON_PATH, Environment
from runner.hub_ids import is_path
from runner.inputs.paths import contents, local_paths
from runner.inputs.task_data import named_by_tasks
from runner.installed import SCORING
from runner.interpreters import Interpreter
from runner.packages import AT_START, OURS
from runner.planning import Facts
from runner.preflight import Findings
from runner.runtimes import Runtime, runtime_of
from runner.variables import moving, parts

# System components that can change the engine's results.
MACHINE = ("cann", "driver", "firmware")
ASKS = (*SCORING, OURS)


def at_hand(found: Findings, environment: Environment) -> Facts:
    """The facts that can be collected without reading weights or data."""
    known = {**environment.packages, **environment.toolkit}
    runtime = runtime_of(found.config.engine.runtime)
    recorded = (*runtime.packages(), *MACHINE)
    return Facts(
        versions={name: known[name] for name in recorded if name in known} | found.told,
        device=environment.chip,
        environment=found.environment,
        series=environment.series,
        inherited=environment.moving if runtime.local else {},
        overruled=tuple(found.overruled),
        engine_code=_digests(environment, _loaded(runtime, found.config.engine.interpreter))
        if runtime.local
        else {},
        evaluation_code=_digests(environment, ASKS),
    )


def gathered(found: Findings, environment: Environment) -> Facts:
    """All facts of a run. Reads its files, so call it only when no problem is left."""
    config, facts = found.config, at_hand(found, environment)
    runtime = runtime_of(config.engine.runtime)
    task, tokenizer = config.task, config.model.tokenizer
    if tokenizer is not None and is_path(tokenizer):
        tokenizer = digest_path(Path(tokenizer).expanduser())
    named = named_by_tasks(
        (*task.names, *task.files.values()),
        (task.include_path, *_edited_tasks(environment, config.engine.interpreter)),
        task.data_dir,
    )
    if any(map(packaged, task.names)):
        named = (*named, TASKS)
    data = [Path(each).expanduser() for each in (task.data_dir, task.include_path) if each]
    return replace(
        facts,
        weights=found.weights.digest if found.weights and runtime.local else facts.weights,
        data=_data(found, named),
        tokenizer=tokenizer,
        paths=contents([config.engine.extra, _read_by_variables(config, environment)]),
        unread=_unread(local_paths(runtime.arguments(config)), (*data, *named)),
    )


def _loaded(runtime: Runtime, python: Interpreter) -> Iterator[str]:
    """Names of the packages and modules that the worker loads to run the model."""
    yield from runtime.packages()
    yield from runtime.plugins(python)
    yield from (*AT_START, ON_PATH, OURS)


def _unread(loaded: Iterable[str], data: Iterable[Path]) -> str:
    """`HOST STATES`: inodes and times are meaningless on another machine."""
    files = last_changes(*(Path(path).expanduser() for path in loaded))
    return f"{platform.node()} {files}{last_changes_of_data(*data)}"


def _data(found: Findings, named: Iterable[Path]) -> str:
    """Digest of the configured data directories and of the local data that task files refer to."""
    source, task = found.source, found.config.task
    if source is not None and source.data_digest is not None:
        directories = f"{source.data_digest} {digest_directories(task.include_path)}"
    else:
        directories = digest_directories(task.data_dir, task.include_path)
    below = sorted(digest_data(path) for path in named)
    if not below:
        return directories
    return f"{directories} {hashlib.sha256(' '.join(below).encode()).hexdigest()}"


def _read_by_variables(config: RunConfig, environment: Environment) -> list[str]:
    """The paths in the worker's environment variables that can change a result."""
    set_here = moving({**environment.moving, **config.engine.env})
    return [part for text in set_here.values() for part in parts(text)]


def _edited_tasks(environment: Environment, python: Interpreter) -> Iterator[str]:
    """lm-eval's task directory if its code was edited; a release's tasks refer to no local data."""
    code = environment.code.get("lm-eval")
    for place in python.places("lm_eval") if code is not None and code.edited else ():
        yield f"{place}/tasks"


def _digests(environment: Environment, names: Iterable[str]) -> dict[str, str]:
    code = environment.code
    return {name: code[name].digest for name in names if name in code}
