"""Finds the cause in a task file when lm-eval raises an exception.

lm-eval checks little of a task file: a wrong value causes some exception later on, without the
task, file or key. The function in lm-eval that raised it tells which key is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from traceback import walk_tb
from types import FrameType
from typing import Any

from lm_eval.api.task import Task

from runner.errors import UserError, out_of_space

# The key of a task file that each of lm-eval 0.4.13's functions reads.
KEYS = {
    "doc_to_text": "doc_to_text",
    "doc_to_target": "doc_to_target",
    "doc_to_choice": "doc_to_choice",
    "doc_to_image": "doc_to_image",
    "doc_to_audio": "doc_to_audio",
    "doc_to_prefix": "gen_prefix",
    "build_qa_turn": "doc_to_text",
    "training_docs": "training_split",
    "validation_docs": "validation_split",
    "test_docs": "test_split",
    "fewshot_docs": "fewshot_config",
    "get_sampler": "fewshot_config.sampler",
    "sample": "num_fewshot",
    "build_filter_ensemble": "filter_list",
    "get_aggregation": "metric_list",
    "get_prompt": "use_prompt",
    "download": "dataset_path",
    "_import_func_in_yml": "!function",
    "apply_chat_template": "apply_chat_template",
    "apply_filters": "filter_list",
    "process_results": "metric_list",
    "_compute_task_aggregations": "metric_list",
}
SPLITS = ("training_docs", "validation_docs", "test_docs")


@dataclass(frozen=True)
class _Place:
    """A frame of the traceback: the function, its module and its variables."""

    name: str
    module: str
    variables: dict[str, Any]
    file: str
    line: int

    @property
    def in_lm_eval(self) -> bool:
        return self.module.partition(".")[0] == "lm_eval"


def explained(error: Exception, asked: str) -> str:
    """One line with the requested name, task, file, key, problem and document.

    Raises:
        Exception: the error itself, if the task did not cause it: a failure of the runner's own
            code, a full disk, no memory.
    """
    places = [_place(frame, line) for frame, line in walk_tb(error.__traceback__)]
    if not isinstance(error, UserError) and not _is_mistake(error, places):
        raise error
    key, what = _what(error, places)
    where = [f"task.names={asked}", *_task(places, asked)]
    return ": ".join([*where, *([key] if key else []), what]) + _document(places)


def said(error: BaseException) -> str:
    """The first line of an exception's message, with the exception's class if it adds meaning."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and isinstance(error, ValueError | AssertionError | OSError | NotImplementedError):
        return lines[0]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _is_mistake(error: Exception, places: list[_Place]) -> bool:
    """Whether the task caused the error, rather than the runner's own code."""
    if isinstance(error, MemoryError) or out_of_space(error):
        return False
    if any(each.module.startswith("lm_eval.models.") and each.name not in KEYS for each in places):
        return False  # raised while the model was running
    known = [each for each in places if each.in_lm_eval or _is_ours(each) or _is_users(each)]
    return not known or not _is_ours(known[-1]) or known[-1].name in KEYS


def _is_ours(place: _Place) -> bool:
    """Whether the function is the runner's. One that is in `KEYS` stands in for lm-eval's."""
    return place.module.startswith("runner.")


def _is_users(place: _Place) -> bool:
    """Whether the function is in a file next to the task's; lm-eval names such modules by path."""
    return place.module.startswith("/")


def source(task: Any) -> str:
    """A task's file, or "inline" if it has none."""
    return str((task.config.metadata or {}).get("config_source", "inline"))


def _place(frame: FrameType, line: int) -> _Place:
    code = frame.f_code
    module = str(frame.f_globals.get("__name__", ""))
    return _Place(code.co_name, module, frame.f_locals, code.co_filename, line)


def _what(error: Exception, places: list[_Place]) -> tuple[str, str]:
    """The key of the task file, and what is wrong with it."""
    ours = [place for place in places if place.in_lm_eval]
    last = ours[-1] if ours else None
    known = [each for each in places if (each.in_lm_eval or _is_ours(each)) and each.name in KEYS]
    if last is not None and (last.module, last.name) == ("lm_eval.api.task", "__init__"):
        return _unfinished(last.variables, error)
    if isinstance(error, UserError):  # the runner's own error, which already names a key
        return "", str(error)
    if not known:
        return "", said(error) + _own_code(places)
    place = known[-1]
    special = SPECIAL.get(place.name)
    found = special(error, place, places) if special is not None else None
    return found or (KEYS[place.name], said(error) + _fields(place) + _own_code(places))


def _unfinished(variables: dict[str, Any], error: Exception) -> tuple[str, str]:
    """The key and problem for an error in lm-eval's checks, all of which run in `Task.__init__`."""
    task = variables["self"]
    if "test_doc" not in variables and hasattr(task, "task_docs") and not len(task.task_docs):
        key = "process_docs" if task.config.process_docs else "test_split"
        return key, f"no documents left in {task.config.test_split}"
    if variables.get("choice") == "":
        return "doc_to_choice", f"a choice is empty: {variables['test_choice']}"
    if "metric_config" in variables and not hasattr(task, "dataset"):
        return "metric_list", f"{variables.get('metric_name')}: {UNKNOWN_METRIC}"
    return "", said(error)


def _split(error: Exception, place: _Place, places: list[_Place]) -> tuple[str, str] | None:
    """The key and problem for a split that the data lacks, or for an error in `process_docs`."""
    task = place.variables["self"]
    key = KEYS[place.name]
    wanted = getattr(task.config, key, None)
    if isinstance(error, KeyError) and wanted not in task.dataset:
        there = ", ".join(map(str, task.dataset))
        return key, f"{wanted}: the data has no such split; it has {there}"
    return "process_docs", said(error) + _own_code(places)


def _shots(error: Exception, place: _Place, places: list[_Place]) -> tuple[str, str]:
    """The key and problem for more few-shot examples than lm-eval's sampler can draw."""
    wanted, pool = place.variables["n"], place.variables["self"].df
    excluded = place.variables.get("eval_doc") is not None
    there = f"{wanted} examples are requested, but there are {len(pool)}"
    return "num_fewshot", there + (", including the question itself" if excluded else "")


def _function(error: Exception, place: _Place, places: list[_Place]) -> tuple[str, str]:
    reason = error
    while isinstance(reason.__cause__, Exception) and reason.__cause__ is not reason:
        reason = reason.__cause__
    return f"!function {place.variables['qual']}", said(reason) + _own_code(places)


def _turn(error: Exception, place: _Place, places: list[_Place]) -> tuple[str, str] | None:
    """The key and problem for a question or answer that is not text, such as a list of messages."""
    if not isinstance(error, AssertionError):
        return None
    for name, key in (("q", "doc_to_text"), ("answer_text", "doc_to_target")):
        value = place.variables.get(name)
        if name in place.variables and not isinstance(value, str):
            kind = "a conversation" if _is_conversation(value) else f"a {type(value).__name__}"
            return key, f"returns {kind}, but lm-eval needs text"
    return None


def _template(error: Exception, place: _Place, places: list[_Place]) -> tuple[str, str]:
    return (
        "task.apply_chat_template",
        f"the model has no chat template that can be applied ({said(error)}); for a model without "
        "one, set task.apply_chat_template=false",
    )


def _scoring(error: Exception, place: _Place, places: list[_Place]) -> tuple[str, str] | None:
    """The key and problem for an error in the task's own `process_results`; None otherwise."""
    if not callable(getattr(place.variables["self"].config, "process_results", None)):
        return None
    return "process_results", said(error) + _own_code(places)


SPECIAL: dict[str, Callable[[Exception, _Place, list[_Place]], tuple[str, str] | None]] = {
    **dict.fromkeys(SPLITS, _split),
    "sample": _shots,
    "_import_func_in_yml": _function,
    "build_qa_turn": _turn,
    "apply_chat_template": _template,
    "process_results": _scoring,
}
UNKNOWN_METRIC = "not found in lm-eval, nor in the Hugging Face evaluate metrics on this machine"


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _task(places: list[_Place], asked: str) -> list[str]:
    """The failing task's name, if it differs from the requested name, and its file."""
    for place in reversed(places):
        for held in (place.variables.get("self"), place.variables.get("task")):
            if isinstance(held, Task) and getattr(held, "_config", None) is not None:
                return _named(str(held.config.task), asked, source(held))
        entry = place.variables.get("entry")
        if place.in_lm_eval and entry is not None:
            return _named(str(entry.name), asked, str(entry.yaml_path or ""))
    return []


def _named(task: str, asked: str, file: str) -> list[str]:
    return [*([task] if task != asked else []), *([file] if file and file != "inline" else [])]


def _document(places: list[_Place]) -> str:
    """The document that lm-eval was processing. Loading a task tries the first one."""
    scoring = any(place.name == "process_results" for place in places)
    for place in reversed(places):
        if place.in_lm_eval and place.name == "build_all_requests" and "doc_id" in place.variables:
            return f" (document {place.variables['doc_id']})"
        if place.in_lm_eval and place.name == "evaluate" and scoring:
            return f" (document {place.variables['doc_id_true']})"
        if place.in_lm_eval and place.name == "__init__" and "test_doc" in place.variables:
            return " (document 0)"
    return ""


def _fields(place: _Place) -> str:
    document = place.variables.get("doc")
    if not isinstance(document, dict):
        return ""
    return f"; the document has {', '.join(map(str, document))}"


def _own_code(places: list[_Place]) -> str:
    """The line of the user's own code, if the exception comes from there."""
    own = [each for each in places if _is_users(each)]
    return f" ({own[-1].file}, line {own[-1].line})" if own else ""
