"""Relative paths in a recorded configuration, as they read from any directory."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf

from runner.config.task_files import SUFFIXES
from runner.variables import LOADED

# Settings that hold paths. Some may hold a hub id, a run id or an address instead.
PATHS: Final = (
    *("model.pretrained", "model.tokenizer", "engine.python", "engine.endpoint.ca_file"),
    *("source.dir", "task.data_dir", "task.include_path", "task.files", "tracking.uri"),
    *("journal.dir", "journal.continues", "verdict.reference"),
    *("verdict.numerics.noise", "verdict.replay.noise"),
)
TASKS = ("task.names",)
# Mappings of a user's own, in which some values are paths.
MAPPINGS = (
    *("engine.extra", "engine.additional_config"),
    *("model.serve.extra", "model.serve.additional_config"),
)
VARIABLES = ("engine.env", "model.serve.env")
# A text is taken for a path in them if it looks like one, or (not for variables) its key says so: a
# directory called `ray` must not change what distributed_executor_backend=ray means.
LOOKS = re.compile(r".*[./].*")
NAMES = re.compile(r"(?i).*(path|dir|file|folder|model|tokenizer|template)s?")
SQLITE = "sqlite:///"


def anchor(tree: DictConfig, place: Path) -> None:
    """Make relative paths absolute, in place, if they exist in the directory `place`."""
    for keys, change in (
        (PATHS, _anchored),
        (TASKS, _task_files),
        (MAPPINGS, _inside),
        (VARIABLES, _variables),
    ):
        for key in keys:
            found = OmegaConf.select(tree, key)
            value = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
            if value and (changed := change(value, place)) != value:
                OmegaConf.update(tree, key, changed, merge=False)


def anchored(text: str, place: Path) -> str:
    """Return the path below `place` if there is one, else the text."""
    uri, file = (SQLITE, text.removeprefix(SQLITE)) if text.startswith(SQLITE) else ("", text)
    if not file or file.startswith(("/", "~")) or not _exists(place / file):
        return text
    return f"{uri}{place / file}"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text that is no name of a file: too long, or with a NUL
        return False


def _anchored(value: Any, place: Path) -> Any:
    if isinstance(value, str):
        return anchored(value, place)
    if isinstance(value, Mapping):
        return {key: _anchored(each, place) for key, each in value.items()}
    return [_anchored(each, place) for each in value] if isinstance(value, Sequence) else value


def _task_files(names: Any, place: Path) -> Any:
    """Task files in a list of tasks; a task may be called like a directory."""
    if not isinstance(names, Sequence):
        return names
    return [anchored(each, place) if str(each).endswith(SUFFIXES) else each for each in names]


def _inside(value: Any, place: Path, key: str = "") -> Any:
    """A value below an open mapping."""
    if isinstance(value, Mapping):
        return {name: _inside(each, place, str(name)) for name, each in value.items()}
    if isinstance(value, list):
        return [_inside(each, place, key) for each in value]
    if isinstance(value, str) and (LOOKS.fullmatch(value) or NAMES.fullmatch(key)):
        return anchored(value, place)
    return value


def _variables(value: Any, place: Path) -> Any:
    """Environment variables; PYTHONPATH and others hold several paths."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: os.pathsep.join(
            _inside(each, place, "path" if name == "PYTHONPATH" or LOADED.fullmatch(name) else "")
            for each in text.split(os.pathsep)
        )
        if isinstance(text, str)
        else text
        for name, text in value.items()
    }
