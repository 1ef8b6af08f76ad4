"""Read lm-eval task files from disk without importing lm-eval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from runner.config.places import TASKS
from runner.errors import UserError

# What `dataset_path` may hold for Hugging Face's `datasets` to read files (`data_files`): formats,
# not data sets. Those of datasets 5.0 and before; a test compares them with the installed ones.
FILE_READERS = frozenset(
    """
    arrow audiofolder conll csv eval fasta fastq genbank harbor hdf5 iceberg imagefolder json lance
    meshfolder mmcif niftifolder pandas parquet pdb pdffolder text tsfile videofolder vortex
    webdataset xml
    """.split()  # noqa: SIM905 - a list of them would take a line each
)
SUFFIXES = (".yaml", ".yml")


def named(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Replace paths of task files by the names inside; return the names and the files by name.

    Relative paths are relative to the working directory.

    Raises:
        UserError: for a path without a file, and for a file that names no task.
    """
    found: list[str] = []
    files: dict[str, str] = {}
    problems: list[str] = []
    for name in names:
        if not name.endswith(SUFFIXES):
            found.append(name)
            continue
        file = Path(name).expanduser().absolute()
        try:
            task = _task_of(file)
        except UserError as error:
            problems += [f"task.names={name}: {problem}" for problem in error.problems]
            continue
        found.append(task)
        files[task] = str(file)
    if problems:
        raise UserError(*problems)
    return found, files


def packaged(name: str) -> Path | None:
    """Return the package's own file for the task, if it has one."""
    return next((file for file in TASKS.glob("*.yaml") if file.stem == name), None)


def reason(error: Exception) -> str:
    """Return why a task file cannot be read."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return (str(error).strip() or repr(error)).splitlines()[0]


class _Loader(yaml.SafeLoader):
    """YAML as lm-eval writes it; its `!function` stays the text it is."""


def _text(loader: yaml.Loader, suffix: str, node: yaml.Node) -> Any:
    return node.value


_Loader.add_multi_constructor("!", _text)


def _task_of(file: Path) -> str:
    try:
        content = _Loader(file.read_bytes()).get_single_data()
    except (OSError, yaml.YAMLError) as error:
        raise UserError(reason(error)) from error
    content = content if isinstance(content, dict) else {}
    task = content.get("group") or content.get("task")
    if not isinstance(task, str):
        raise UserError("not a task file: it has neither `task: NAME` nor `group: NAME`")
    return task
