"""Find local data in task files (`dataset_path`, `data_files`, …) from the YAML.

lm-eval may not be imported before the worker starts, so its rules are followed here: a name is a
task, a group or a tag of a file below the include path; `include` takes another file's settings.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from runner.config.places import DATA_SETS
from runner.config.task_files import FILE_READERS

NAMES = ("task", "group", "tag")
# Below these keys a relative path counts as well; elsewhere a text is a path if it is absolute.
DATA_KEYS = ("dataset_path", "dataset_name", "dataset_kwargs", "metadata")


def named_by_tasks(
    names: Iterable[str], roots: Iterable[str | None], data_dir: str | None
) -> tuple[Path, ...]:
    """Return local data in the tasks' files, and task files and code outside the roots.

    Args:
        names: tasks, groups and tags as they are asked for, or paths of task files.
        roots: directories of task files.
        data_dir: where relative paths are looked up, beside the working directory and the
            directory of the task file; without one, among the package's own data sets.
    """
    places = [Path(root).expanduser().resolve() for root in roots if root is not None]
    walk = _Walk(places, [Path.cwd(), Path(data_dir).expanduser() if data_dir else DATA_SETS])
    for name in names:
        walk.visit(name)
    outside = {file for file in walk.read if not any(file.is_relative_to(at) for at in places)}
    return tuple(sorted(walk.found | outside))


class _Function:
    """`!function module.name` of a task file."""

    def __init__(self, reference: object) -> None:
        self._module = str(reference).rpartition(".")[0].replace(".", "/")

    def beside(self, task_file: Path) -> Path:
        """Where lm-eval looks first."""
        return task_file.parent / f"{self._module}.py"


# The C parser, where there is one: ten times as fast.
_Loader: Any = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
_Loader.add_constructor("!function", lambda loader, node: _Function(node.value))


class _Walk:
    """From names to the files that define them, their members and what they include."""

    def __init__(self, roots: list[Path], bases: list[Path]) -> None:
        self._bases = bases
        self._texts = {
            file: file.read_bytes() for root in roots for file in sorted(root.rglob("*.yaml"))
        }
        self._contents: dict[Path, Mapping[str, Any]] = {}
        self._visited: set[str] = set()
        self.read: set[Path] = set()
        self.found: set[Path] = set()

    def visit(self, name: str) -> None:
        """Follow every file that defines the name."""
        if name in self._visited:
            return
        self._visited.add(name)
        direct = Path(name).expanduser()
        if direct.suffix in (".yaml", ".yml") and direct.is_file():
            self._follow(direct.resolve())
        known = name.encode()
        for file, text in self._texts.items():
            if known in text and name in _names(self._content(file)):
                self._follow(file)

    def _content(self, file: Path) -> Mapping[str, Any]:
        if file not in self._contents:
            self._contents[file] = _parsed(self._texts.get(file) or file.read_bytes())
        return self._contents[file]

    def _follow(self, file: Path) -> None:
        if file in self.read or not file.is_file():
            return
        self.read.add(file)
        content = self._content(file)
        for value, in_data in _leaves(content, in_data=False):
            if isinstance(value, _Function):
                self.read.update(each for each in [value.beside(file)] if each.is_file())
            else:
                self.found.update(self._local(value, in_data, file.parent))
        for included in _listed(content.get("include")):
            self._follow((file.parent / str(included)).resolve())
        for member in _members(content):
            self.visit(member)

    def _local(self, text: str, in_data: bool, beside: Path) -> Iterator[Path]:
        """What a text names here; a pattern names all that it matches."""
        text = text.rpartition("::")[2].removeprefix("file://")  # zip://*.json::archive.zip
        if "://" in text or text in FILE_READERS or not text.strip("./"):
            return
        path = os.path.expanduser(text)
        relative = [beside, *self._bases] if in_data else []
        bases = [Path("/")] if os.path.isabs(path) else relative
        for base in bases:
            for match in glob.iglob(str(base / path), recursive=True):
                yield Path(match).resolve()


def _parsed(text: bytes) -> Mapping[str, Any]:
    """A file's settings; nothing of one that lm-eval could not read either."""
    try:
        content = _Loader(text).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return content if isinstance(content, Mapping) else {}


def _names(content: Mapping[str, Any]) -> set[str]:
    return {each for key in NAMES for each in _listed(content.get(key)) if isinstance(each, str)}


def _members(content: Mapping[str, Any]) -> Iterator[str]:
    """The names of a group's tasks and subgroups."""
    for member in _listed(content.get("task")):
        if isinstance(member, str):
            yield member
        elif isinstance(member, Mapping):
            yield from _names(member)
            yield from _members(member)


def _leaves(value: Any, in_data: bool) -> Iterator[tuple[str | _Function, bool]]:
    """Every text and function in the settings, and whether it stands below a key of data."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, in_data or key in DATA_KEYS)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, in_data)
    elif isinstance(value, str | _Function) and value:
        yield value, in_data


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
