"""lm-eval's index of task files, plus the files it skipped and names that several files use."""

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

from runner.config.places import TASKS
from runner.config.task_files import FILE_READERS, reason
from runner.config.usage import suggestion
from runner.errors import UserError
from runner.lm.replaced import replaced

KINDS = ("task", "group", "class")


class IndexedTasks(TaskManager):
    """lm-eval's task manager, which skips files that it cannot read, and records why."""

    def __init__(
        self, include_path: str | None, include_defaults: bool, files: Mapping[str, str]
    ) -> None:
        """Index the package's tasks, those of `include_path` and, if wanted, lm-eval's own.

        `files` are single task files by task name; they take precedence over indexed files.

        Raises:
            UserError: if one of `files` cannot be read.
        """
        self.own = Path(include_path).resolve() if include_path else None
        # User files that were skipped, with the reason; user files by task name.
        self.unreadable: dict[Path, str] = {}
        self.by_name: dict[str, list[Path]] = {}
        with replaced(_index, "load_yaml", self._load_yaml):
            super().__init__(
                include_path=task_directories(include_path), include_defaults=include_defaults
            )
        self._factory = _Factory()
        for name, file in files.items():
            self._index[name] = _entry(name, Path(file))
        self._all_tasks = sorted(self._index)

    def problem(self, name: str) -> str:
        """The reason why there is no such task."""
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
        """A warning if several of the user's files have the name; otherwise an empty string."""
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
        """lm-eval's function; records user files that it skips and the names of the others."""
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


def task_directories(include_path: str | None) -> list[str | Path]:
    """Directories of task files besides lm-eval's own; the last one that has a name wins."""
    return [TASKS, *([include_path] if include_path is not None else [])]


class _Factory(TaskFactory):
    """lm-eval's factory, with support for paths relative to the task file."""

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
    """All paths of a `data_files` value: a string, a list, or either of them by split."""
    if isinstance(value, dict):
        return {split: _resolved(files, beside) for split, files in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(each, beside) for each in value]
    return _found(value, beside) if isinstance(value, str) else value


def _found(path: str, beside: Path) -> str:
    """The path relative to the task file's directory if it exists, else as in lm-eval.

    lm-eval resolves relative paths against the working directory. URLs are returned unchanged.
    """
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
