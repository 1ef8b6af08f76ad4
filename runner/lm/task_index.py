"""lm-eval's index of task files, with what it passed over, and names that several files have."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager, _index
from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._index import Entry, TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from runner.config.task_files import FILE_READERS, reason
from runner.config.usage import suggestion
from runner.errors import UserError
from runner.lm.replaced import replaced

KINDS = ("task", "group", "class")


class IndexedTasks(TaskManager):
    """lm-eval's task manager, which passes over files that it cannot read, and says so."""

    def __init__(
        self, include_path: str | None, include_defaults: bool, files: Mapping[str, str]
    ) -> None:
        """`files` are single task files by the name of their task, which they give it for certain.

        Raises:
            UserError: if one of `files` cannot be read.
        """
        self.own = Path(include_path).resolve() if include_path else None
        # Files of the user's that were passed over, and why; files by the name they give a task.
        self.unreadable: dict[Path, str] = {}
        self.by_name: dict[str, list[Path]] = {}
        with replaced(_index, "load_yaml", self._load_yaml):
            super().__init__(include_path=include_path, include_defaults=include_defaults)
        self._factory = _Factory()
        for name, file in files.items():
            self._index[name] = _entry(name, Path(file))
        self._all_tasks = sorted(self._index)

    def problem(self, name: str) -> str:
        """Why there is no such task."""
        for file, why in self.unreadable.items():
            if self._claims(file, name):
                return f"task.names={name}: {file}: {why}"
        passed_over = "".join(f" Not read: {file} ({why})." for file, why in self._some_unreadable)
        near = suggestion(name, tuple(self.all_tasks))
        return f"task.names={name}: lm-eval has no such task.{near}{passed_over}"

    def fails(self, name: str) -> bool:
        """Whether the user has a file for the task that cannot be read."""
        return any(self._claims(file, name) for file in self.unreadable)

    def taken_twice(self, name: str) -> str:
        """A warning if several of the user's files have the name; else nothing."""
        files = [file for file in self.by_name.get(name, []) if file != self._index[name].yaml_path]
        if not files:
            return ""
        used = self._index[name].yaml_path
        ignored = ", ".join(map(str, files))
        return f"task.names={name}: several files have this name: {used} is used, not {ignored}"

    @property
    def _some_unreadable(self) -> list[tuple[Path, str]]:
        return list(self.unreadable.items())[:3]

    def _load_yaml(self, path: Path, **options: Any) -> dict[str, Any]:
        """lm-eval's, with a note of what became of a file of the user's."""
        own = self.own is not None and path.resolve().is_relative_to(self.own)
        try:
            content: dict[str, Any] = load_yaml(path, **options)
        except Exception as error:
            if own:
                self.unreadable[path] = reason(error)
            raise
        if own and not any(kind in content for kind in KINDS):
            self.unreadable[path] = "no `task: NAME` in it"
        elif own:
            name = str(content.get("group") or content.get("task"))
            self.by_name.setdefault(name, []).append(path)
        return content

    def _claims(self, file: Path, name: str) -> bool:
        line = rf"^[ {{]*\"?(?:task|group)\"?: *[\"']?{re.escape(name)}[\"']?\s*(?:[,#].*)?$"
        return re.search(line, file.read_text(errors="replace"), re.MULTILINE) is not None


class _Factory(TaskFactory):
    """lm-eval's, for which relative paths in a task file may be relative to that file."""

    def _load_full_config(
        self, entry: Entry, overrides: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        config: dict[str, Any] = super()._load_full_config(entry, overrides)
        if entry.yaml_path is None:
            return config
        beside = Path(entry.yaml_path).resolve().parent
        path = str(config.get("dataset_path") or "")
        if path.startswith(("./", "../", "~")):
            config["dataset_path"] = _found(path, beside)
        if path in FILE_READERS:
            options = dict(config.get("dataset_kwargs") or {})
            for key in ("data_files", "data_dir"):
                if key in options:
                    options[key] = _resolved(options[key], beside)
            config["dataset_kwargs"] = options
        return config


def _resolved(value: Any, beside: Path) -> Any:
    """Every path in a `data_files`, which may be a text, a list, or either by split."""
    if isinstance(value, dict):
        return {split: _resolved(files, beside) for split, files in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(each, beside) for each in value]
    return _found(value, beside) if isinstance(value, str) else value


def _found(path: str, beside: Path) -> str:
    """The path below the task file's directory if anything is there, else as lm-eval has it: below
    the working directory. Addresses stay as they are."""
    if "://" in path:
        return path
    for place in (beside, Path.cwd()):
        whole = str(place / Path(path).expanduser())
        if glob.glob(whole):
            return whole
    return path


def _entry(name: str, file: Path) -> Entry:
    try:
        entry = TaskIndex.entry_from_path(file)
        content = load_yaml(file, resolve_func=False)
    except Exception as error:
        raise UserError(f"task.names={file}: {reason(error)}") from error
    assert entry is not None, f"{file} is gone"
    entry.name, entry.cfg = name, content
    return entry
