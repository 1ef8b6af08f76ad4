"""Resolve the sources of weights and data sets: `source.weights`, `source.data`, `source.dir`.

`find` looks, and asks no network. What it finds replaces the ids in the configuration (`settled`),
so that all after it sees directories, and an id only where a hub must be asked.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.hub_ids import is_path
from runner.hubs import modelscope
from runner.hubs.cache import cached_on_hf, cached_on_modelscope
from runner.inputs import manifest
from runner.inputs.manifest import Manifest, Repository

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
MODELSCOPE = "VLLM_USE_MODELSCOPE"


@dataclass(frozen=True)
class Found:
    """The resolved paths and variables for the engine and lm-eval.

    `prepared` are the parts of `source.dir` among it; `data_digest` says who the data sets are
    where the manifest knows it, and is None elsewhere.
    """

    pretrained: str
    tokenizer: str | None
    data_dir: str | None
    data_digest: str | None
    prepared: tuple[Repository, ...]
    environment: dict[str, str]


def find(config: RunConfig) -> Found:
    """Resolve every path without network access and without reading the files.

    Raises:
        UserError: if a place that must be local is not there.
    """
    problems = _contradictions(config)
    if problems:
        raise UserError(*problems)
    prepared: list[Repository] = []
    directory, listed = _prepared_directory(config)

    def place(identifier: str, key: str) -> str:
        repository = listed.at(f"{manifest.WEIGHTS}/{identifier}") if listed else None
        if repository is None or directory is None:
            return _weights(config, identifier, key)
        wanted = config.model.revision if key == "model.pretrained" else None
        if wanted not in (repository.asked, repository.revision):
            raise UserError(
                f"model.revision={wanted}: source.dir={directory} has {identifier} at "
                f"{repository.asked or 'its main branch'} ({repository.revision}). "
                f"{_prepare(config)}"
            )
        prepared.append(repository)
        return str((directory / repository.directory).resolve())

    model = config.model
    try:
        pretrained = place(model.pretrained, "model.pretrained")
        tokenizer = place(model.tokenizer, "model.tokenizer") if model.tokenizer else None
    except UserError as error:
        pretrained, tokenizer, problems = model.pretrained, model.tokenizer, [*error.problems]
    data_dir, data = config.task.data_dir, None
    if config.source.data == "local" and data_dir is None and directory and listed:
        data_dir = str((directory / manifest.DATA).resolve())
        try:
            data = _data_sets(config, directory, listed)
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return Found(
        pretrained=pretrained,
        tokenizer=tokenizer,
        data_dir=data_dir,
        data_digest=_digest(data) if data is not None else None,
        prepared=(*prepared, *(data or ())),
        environment=worker_environment(config, pretrained, tokenizer),
    )


def settled(config: RunConfig, found: Found) -> RunConfig:
    """Return the configuration with the paths that `find` resolved."""
    model = replace(config.model, pretrained=found.pretrained, tokenizer=found.tokenizer)
    return replace(config, model=model, task=replace(config.task, data_dir=found.data_dir))


_verified: set[tuple[Path, manifest.Repository, bool]] = set()


def verify(config: RunConfig, found: Found, tell: Callable[[str], None]) -> None:
    """Compare the run's files in `source.dir` with the manifest; once per sweep.

    Raises:
        UserError: with a line for each way in which they differ.
    """
    directory = Path(str(config.source.dir)).expanduser()
    whole = config.source.verify == "whole"
    left = [each for each in found.prepared if (directory, each, whole) not in _verified]
    if not left:
        return
    size = sum(repository.size for repository in left) / 1e9
    tell(f"checking {directory} against its manifest: {size:.1f} GB, {config.source.verify} …")
    problems = [
        problem
        for repository in left
        for problem in manifest.problems(directory, repository, whole)
    ]
    if problems:
        raise UserError(*problems)
    _verified.update((directory, each, whole) for each in left)


def fetch(config: RunConfig, found: Found, tell: Callable[[str], None]) -> bool:
    """Fetch ModelScope models into its cache; return whether anything was fetched.

    Raises:
        UserError: if it cannot be had.
    """
    if config.source.weights != "modelscope":
        return False
    model, fetched = config.model, False
    for key, place, revision in (
        ("model.pretrained", found.pretrained, model.revision),
        ("model.tokenizer", found.tokenizer, None),
    ):
        if place is not None and not is_path(place):
            tell(f"fetching {place} from ModelScope …")
            modelscope.fetch_model(place, revision, key)
            fetched = True
    return fetched


def worker_environment(
    config: RunConfig,
    pretrained: str,
    tokenizer: str | None,
    inherited: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return the variables that decide which hub the worker's libraries may contact.

    ModelScope's weights reach the engine as a directory (`fetch`), so vLLM is kept from asking it:
    for the word "true" it would patch the hub library that `datasets` uses too.
    """
    # The configuration decides, not what a shell profile exports for other tools.
    variables = {MODELSCOPE: "False"} if inherited.get(MODELSCOPE) else {}
    if config.source.data == "local":
        # Where the weights come from the hub, HF_HUB_OFFLINE would stop them as well.
        remote = any(place and not Path(place).is_dir() for place in (pretrained, tokenizer))
        variables |= {"HF_DATASETS_OFFLINE": "1"} if remote else OFFLINE
    return variables


def _contradictions(config: RunConfig) -> list[str]:
    source, problems = config.source, []
    sources = (source.weights, source.data)
    if source.dir is not None and "local" not in sources:
        problems.append(
            f"source.dir={source.dir}: used only with local sources; set source=local, "
            "source.weights=local or source.data=local"
        )
    if MODELSCOPE in config.engine.env:
        problems.append(
            f"engine.env.{MODELSCOPE}: use source.weights=modelscope instead; the runner then "
            "fetches the weights and passes a directory to the engine"
        )
    if "modelscope" in sources and not modelscope.installed():
        key = "source.weights" if source.weights == "modelscope" else "source.data"
        if key == "source.data" or not _at_hand(config):
            problems.append(
                f"{key}=modelscope: the ModelScope client is not installed: {modelscope.INSTALL}"
            )
    return problems


def _at_hand(config: RunConfig) -> bool:
    """Whether no hub needs to be asked for the weights."""
    model = config.model
    places = {
        model.pretrained: model.revision,
        **({model.tokenizer: None} if model.tokenizer else {}),
    }
    return all(
        is_path(name) or modelscope.whole_in_cache(_modelscope_id(config, name), revision)
        for name, revision in places.items()
    )


def _modelscope_id(config: RunConfig, identifier: str) -> str:
    """The id on ModelScope, where it is another than the Hugging Face one."""
    if identifier == config.model.pretrained and not is_path(identifier):
        return config.model.modelscope or identifier
    return identifier


def _prepared_directory(config: RunConfig) -> tuple[Path | None, Manifest | None]:
    if config.source.dir is None:
        return None, None
    directory = Path(config.source.dir).expanduser()
    if not directory.is_dir():
        raise UserError(f"source.dir={directory}: no such directory")
    listed = manifest.read(directory)
    if listed is None:
        raise UserError(
            f"source.dir={directory}: no {manifest.NAME} in it, so prepare did not finish. "
            f"{_prepare(config)}"
        )
    return directory, listed if config.source.weights == "local" else replace(
        listed, repositories=tuple(each for each in listed.repositories if each.kind == "dataset")
    )


def _prepare(config: RunConfig) -> str:
    tasks = ",".join(config.task.names)
    return (
        f"On a machine with network access: `python -m runner.prepare model={config.model.name} "
        f"task.names=[{tasks}] source.dir={config.source.dir or 'DIR'}` (plus the run's other "
        "model and task settings)"
    )


def _weights(config: RunConfig, identifier: str, key: str) -> str:
    """A directory where there is one, else the id that the hub knows."""
    hub = config.source.weights
    revision = config.model.revision if key == "model.pretrained" else None
    if is_path(identifier) or hub == "hf":
        return identifier
    if hub == "modelscope":
        known = _modelscope_id(config, identifier)
        return str(modelscope.whole_in_cache(known, revision) or known)
    cached = cached_on_hf(identifier, revision) or cached_on_modelscope(
        _modelscope_id(config, identifier), revision
    )
    if cached is None:
        where = f"in source.dir={config.source.dir}, " if config.source.dir else ""
        raise UserError(
            f"{key}={identifier}: not found as a directory, {where}or in a hub's cache on this "
            f"machine, and source.weights=local contacts no hub. {_prepare(config)}, copy the "
            "directory to this machine and set source=local source.dir=DIR"
        )
    return str(cached)


def _data_sets(config: RunConfig, directory: Path, listed: Manifest) -> tuple[Repository, ...]:
    absent = [name for name in config.task.names if name not in listed.tasks]
    if absent:
        raise UserError(
            f"task.names={','.join(absent)}: not prepared in source.dir={directory}, which has "
            f"{', '.join(sorted(listed.tasks)[:10]) or 'no task'}. {_prepare(config)}"
        )
    wanted = {
        f"{manifest.DATA}/{each}" for name in config.task.names for each in listed.tasks[name]
    }
    found = [listed.at(each) for each in sorted(wanted)]
    if any(each is None for each in found):
        raise UserError(
            f"source.dir={directory}: incomplete: a data set of {','.join(config.task.names)} is "
            f"not in {manifest.NAME}. {_prepare(config)}"
        )
    return tuple(each for each in found if each is not None)


def _digest(repositories: tuple[Repository, ...]) -> str:
    """Who the data sets are: their files' names and hashes, wherever they lie."""
    content = [
        (repository.directory, file.path, file.sha256)
        for repository in repositories
        for file in sorted(repository.files, key=lambda file: file.path)
    ]
    return hashlib.sha256(repr(content).encode()).hexdigest()
