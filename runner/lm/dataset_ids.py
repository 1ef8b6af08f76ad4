"""Finds the data sets of lm-eval's tasks without loading any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from runner.config.task_files import FILE_READERS
from runner.config.usage import suggestion
from runner.errors import UserError
from runner.lm.task_index import task_directories


def data_sets(names: list[str], include_path: str | None) -> dict[str, dict[str, str | None]]:
    """Data set ids and revisions of each name, and of each group and task below it.

    Raises:
        UserError: for a name that lm-eval does not know, or one whose data is in no repository.
    """
    manager = TaskManager(include_path=task_directories(include_path))
    known = tuple(manager.all_tasks)
    unknown = [
        f"task.names={name}: lm-eval has no such task.{suggestion(name, known)}"
        for name in names
        if name not in manager.task_index
    ]
    if unknown:
        raise UserError(*unknown)
    walk = _Walk(manager.task_index)
    for name in names:
        walk.visit(name, {})
    if walk.problems:
        raise UserError(*walk.problems)
    return walk.found


class _Walk:
    """Visits the tasks below a name in the order in which lm-eval's factory builds them."""

    def __init__(self, index: Mapping[str, Any]) -> None:
        self._index = index
        self.found: dict[str, dict[str, str | None]] = {}
        self.problems: list[str] = []

    def visit(self, name: str, overrides: Mapping[str, Any]) -> dict[str, str | None]:
        entry: Any = self._index.get(name)
        config = (entry.cfg or {}) if entry is not None else {}
        kind = entry.kind.name if entry is not None else "TASK"
        if kind == "TAG":
            below = [self.visit(each, overrides) for each in sorted(entry.tags)]
        elif kind == "GROUP":
            # Other settings in a group's file override those of its tasks.
            below = [self._member(each, {**config, **overrides}) for each in config["task"]]
        elif kind == "PY_TASK":
            self.problems.append(f"task.names={name}: written in Python; {_BY_HAND}")
            below = []
        else:
            below = [self._leaf(name, {**config, **overrides})]
        ids = {identifier: revision for each in below for identifier, revision in each.items()}
        self.found.setdefault(name, {}).update(ids)
        return ids

    def _member(self, member: Any, overrides: Mapping[str, Any]) -> dict[str, str | None]:
        if isinstance(member, str):
            return self.visit(member, overrides)
        merged = {**overrides, **{k: v for k, v in member.items() if k not in ("task", "group")}}
        name = member.get("group") or member.get("task")
        if isinstance(name, str) and (name in self._index or "group" not in member):
            return self.visit(name, merged)
        below = [self._member(each, merged) for each in member.get("task") or []]
        return {identifier: revision for each in below for identifier, revision in each.items()}

    def _leaf(self, name: str, config: Mapping[str, Any]) -> dict[str, str | None]:
        identifier = config.get("dataset_path")
        options = config.get("dataset_kwargs") or {}
        if config.get("custom_dataset") or not identifier:
            self.problems.append(
                f"task.names={name}: fetches its data with its own code; {_BY_HAND}"
            )
        elif identifier in FILE_READERS:
            self.problems.append(f"task.names={name}: reads data files by path or URL; {_BY_HAND}")
        elif not Path(identifier).is_dir():
            return {identifier: options.get("revision")}
        return {}


_BY_HAND = (
    "prepare cannot fetch it; run the task once on a machine with network access and copy that "
    "machine's caches (HF_HOME) to this one"
)
