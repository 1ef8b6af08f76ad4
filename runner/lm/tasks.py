"""Loads lm-eval's tasks and checks them before an engine starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from runner.errors import UserError
from runner.lm.datasets import NotHere
from runner.lm.guesses import watch
from runner.lm.mistakes import UNKNOWN_METRIC, explained, source
from runner.lm.prompt_templates import compile_once
from runner.lm.requests import Requests
from runner.lm.task_index import IndexedTasks
from runner.plan import Evaluation, Plan
from runner.served import OF_SPECULATION


@dataclass(frozen=True)
class LoadedTask:
    """One requested name and what lm-eval loaded for it: a task, a group, or the tasks of a tag."""

    evaluation: Evaluation
    items: tuple[Task | Group, ...]
    leaves: dict[str, Task]
    # For each leaf, whether lm-eval guessed, for every scored sample (runner/lm/guesses.py).
    guessed: dict[str, list[bool]]
    # For each leaf, its requests compared with the configuration.
    requests: dict[str, Requests]

    @property
    def expected(self) -> int:
        """Number of samples to ask with the evaluation's limit, which applies to each subtask."""
        return sum(
            _limited(len(task.eval_docs), self.evaluation.limit) for task in self.leaves.values()
        )

    @property
    def whole(self) -> int:
        """Number of samples in the task without a limit."""
        return sum(len(task.eval_docs) for task in self.leaves.values())


# Task managers by include directory, single files and whether they include lm-eval's own tasks.
Managers = dict[tuple[str | None, tuple[str, ...], bool], IndexedTasks]


def task_manager(
    include_path: str | None,
    names: Sequence[str],
    held: Managers,
    files: Mapping[str, str] | None = None,
) -> IndexedTasks:
    """A task manager that knows the tasks; created once and then kept in `held`.

    If the package's tasks, `include_path` and the single `files` (by task name) contain all names,
    lm-eval's own thousands of task files are not read.
    """
    files = files or {}
    for defaults in (False, True):
        key = (include_path, tuple(files.values()), defaults)
        if key not in held:
            held[key] = IndexedTasks(include_path, defaults, files)
        manager = held[key]
        if all(_is_whole(manager, name) or manager.fails(name) for name in names):
            break
    return manager


def _is_whole(manager: TaskManager, name: Any) -> bool:
    """Whether the name and everything below it is known.

    False for a tag, which may have more tasks in lm-eval's own files.
    """
    entry = manager.task_index.get(name) if isinstance(name, str) else None
    if entry is None or entry.kind.name == "TAG":
        return False
    members = entry.cfg["task"] if entry.kind.name == "GROUP" else []
    return all(_is_whole(manager, member) for member in members)


def load_tasks(
    plan: Plan, manager: IndexedTasks, absent: list[str] | None = None
) -> list[LoadedTask]:
    """Load every requested task, including its data.

    A task whose data is not on this machine is left out and added to `absent`, if that is given.

    Raises:
        UserError: for a name that lm-eval does not know, a task that it cannot build, one that this
            kind of model cannot answer, or a baseline for a metric that the task lacks.
        OSError: if the disk has no room for the data.
    """
    compile_once()
    known = set(manager.all_tasks)
    problems = [manager.problem(each.task) for each in plan.evaluations if each.task not in known]
    loaded = []
    for evaluation in plan.evaluations if not problems else ():
        try:
            loaded.append(_load(manager, evaluation, plan))
        except Exception as error:
            noted = absent if absent is not None and isinstance(error, NotHere) else problems
            noted.append(explained(error, evaluation.task))
    for task in loaded:
        problems += _metric_problems(task)
        problems += _baseline_problems(task)
        problems += _image_problems(task, plan.backend)
    if problems:
        raise UserError(*problems)
    return loaded


def taken_twice(loaded: Sequence[LoadedTask], manager: IndexedTasks) -> list[str]:
    """A warning for each task whose name is used by several of the user's files."""
    names = dict.fromkeys(name for task in loaded for name in (task.evaluation.task, *task.leaves))
    return [warning for name in names if (warning := manager.taken_twice(name))]


def _load(manager: IndexedTasks, evaluation: Evaluation, plan: Plan) -> LoadedTask:
    built = manager.load([evaluation.task])
    groups = built.get("groups") or {}
    top = groups.get(evaluation.task)
    items: tuple[Any, ...] = (top,) if top is not None else tuple(built["tasks"].values())
    leaves = dict(built["tasks"])
    return LoadedTask(
        evaluation,
        items,
        leaves,
        guessed={name: watch(task) for name, task in leaves.items()},
        requests={name: Requests(name, task, evaluation, plan) for name, task in leaves.items()},
    )


def _metric_problems(loaded: LoadedTask) -> list[str]:
    """Problems for metrics that lm-eval did not find.

    lm-eval itself would fail only after all answers have been generated.
    """
    return [
        f"task.names={loaded.evaluation.task}: {source(leaf)}: metric_list: {name}: "
        f"{UNKNOWN_METRIC}"
        for leaf in loaded.leaves.values()
        if leaf.OUTPUT_TYPE == "generate_until" and leaf.config.process_results is None
        for name, function in getattr(leaf, "_metric_fn_list", {}).items()
        if function is None
    ]


def _image_problems(loaded: LoadedTask, backend: str) -> list[str]:
    shown = [leaf for leaf in loaded.leaves.values() if getattr(leaf, "MULTIMODAL", False)]
    name = loaded.evaluation.task
    if shown and backend in ("vllm", "hf"):
        return [f"model.backend=vllm: {name} has images; use model.backend=vllm-vlm"]
    scored = sorted({leaf.OUTPUT_TYPE for leaf in shown} - {"generate_until"})
    if scored:
        return [
            f"task.names={name}: {', '.join(scored)} about images, which lm-eval's {backend} "
            "cannot score; choose a task that generates its answers (output_type: generate_until)"
        ]
    return []


def _baseline_problems(loaded: LoadedTask) -> list[str]:
    evaluation = loaded.evaluation
    known = _metrics(loaded)
    if known is None:
        return []
    return [
        f"model.baselines.{evaluation.task}.{metric}.{filter_name}: the task has no such metric; "
        f"it has {', '.join('.'.join(pair) for pair in sorted(known)) or 'none of its own'}"
        for metric, filters in evaluation.baselines.items()
        for filter_name in filters
        if (metric, filter_name) not in known and metric not in OF_SPECULATION
    ]


def _metrics(loaded: LoadedTask) -> set[tuple[str, str]] | None:
    """(metric, filter) pairs that the name itself will report; None if they cannot be known."""
    group = loaded.items[0] if isinstance(loaded.items[0], Group) else None
    if group is None:
        task = loaded.leaves.get(loaded.evaluation.task)
        return _task_metrics(task) if task is not None else set()
    pairs: set[tuple[str, str]] = set()
    for aggregate in group.aggregate_metric_list or []:
        names = aggregate.filter_list
        if names is None:
            below = [_task_metrics(leaf) for leaf in loaded.leaves.values()]
            if any(metrics is None for metrics in below):
                return None
            names = sorted({pair[1] for metrics in below for pair in metrics or ()})
        names = [names] if isinstance(names, str) else names
        pairs |= {(aggregate.metric, name) for name in names}
    return pairs


def _task_metrics(task: Task) -> set[tuple[str, str]] | None:
    filters = [each.name for each in task._filters]
    try:
        metrics = list(task.aggregation())
    except NotImplementedError:
        return None
    return {(metric, name) for metric in metrics for name in filters or ["none"]}


def _limited(size: int, limit: float | None) -> int:
    """Number of samples under a limit: below 1 it is a share, rounded up, otherwise a number."""
    if limit is None:
        return size
    return min(size, math.ceil(size * limit) if limit < 1 else int(limit))
