"""What is wrong in a task file is said in a line: the task, its file, the key, the document."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from types import CellType, FunctionType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from lm_eval.models.huggingface import HFLM

from runner.errors import UserError
from runner.lm.building import build_requests
from runner.lm.datasets import local_datasets
from runner.lm.task_index import IndexedTasks
from runner.lm.tasks import load_tasks, taken_twice, task_manager
from runner.plan import Plan
from tests.unit.test_building import WAY, Load, Recording, finish, load

__all__ = ["load"]  # a fixture

CHOICES = {"output_type": "multiple_choice", "metric_list": [{"metric": "acc"}], "doc_to_target": 0}


def refused(load: Load, changes: dict[str, Any], more: str = "") -> str:
    """The line about a task with these changes."""
    with local_datasets(None), pytest.raises(UserError) as caught:
        manager, loaded, plan = load({"broken": changes}, more)
        build_requests(Recording(), manager, loaded, plan)
    (line,) = caught.value.problems
    return line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_split": "validation"}, "test_split: validation: the data has no such split; it h"),
        ({"training_split": "train"}, "training_split: train: the data has no such split; it has"),
        ({"doc_to_text": "{{question}}"}, "doc_to_text: UndefinedError: 'question' is undefined; "),
        ({"doc_to_text": "{{q}"}, "doc_to_text: TemplateSyntaxError: "),
        ({"output_type": "generate"}, "Got invalid output_type 'generate', must be in"),
        ({"metric_list": [{"metric": "rouge9"}]}, "metric_list: rouge9: not found in lm-eval, nor"),
        (
            {"metric_list": [{"metric": "r9", "aggregation": "mean", "higher_is_better": True}]},
            "metric_list: r9: not found in lm-eval, nor",
        ),
        ({"num_fewshot": 9}, "num_fewshot: 9 examples are requested, but there are 5 (document 0)"),
        (
            {"num_fewshot": 5, "fewshot_config": {"split": "test"}},
            "num_fewshot: 5 examples are requested, but there are 5, including the question itself",
        ),
        (
            {"num_fewshot": 2, "fewshot_config": {"sampler": "first_n", "samples": [{"q": "?"}]}},
            "num_fewshot: 2 examples are requested, but there are 1",
        ),
        ({"fewshot_config": {"sampler": "best"}}, "fewshot_config.sampler: KeyError: "),
        ({"doc_to_text": "turns"}, "doc_to_text: returns a conversation, but lm-eval needs text"),
        ({**CHOICES, "doc_to_choice": ["", "b"]}, "doc_to_choice: a choice is empty: ['', 'b']"),
        (
            {**CHOICES, "doc_to_choice": "{{[a if a != '6' else '', 'no']}}"},
            "doc_to_choice: is empty, so it has no likelihood (document 3)",
        ),
        (
            {**CHOICES, "doc_to_choice": "{{options}}"},
            "doc_to_choice: UndefinedError: 'options' is undefined; the document has q, a",
        ),
        ({"doc_to_text": "{{'\\ud83d'}}"}, "an unpaired surrogate, which is not valid Unicode (d"),
        ({"gen_prefix": "{{start}}"}, "gen_prefix: UndefinedError: 'start' is undefined"),
        ({"filter_list": [{"name": "x", "filter": [{"function": "y"}]}]}, "filter_list: "),
        ({"unknown_key": 1}, "unknown_key"),
        (
            {"dataset_kwargs": {"data_files": {"test": "/nowhere/data.jsonl"}}},
            "dataset_kwargs: dataset_path=json cannot read the files: Unable to find "
            "'/nowhere/data.j",
        ),
    ],
    ids=lambda value: str(value)[:50].encode("ascii", "replace").decode(),
)
def test_a_broken_value_is_named(
    load: Load, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    line = refused(load, changes)
    assert line.startswith(f"task.names=broken: {tmp_path / 'broken.yaml'}: "), line
    assert said in line
    assert "\n" not in line and "hf download" not in line


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", "!function utils.f: AttributeError: module '{}/utils' has no attribute 'f'"),
        ("def f(docs:", "!function utils.f: SyntaxError: '(' was never closed (utils.py, line 1)"),
        ("import nothing_like_it", "!function utils.f: ModuleNotFoundError: No module named 'noth"),
        ("def f(docs):\n    return docs['z']", "process_docs: "),
        ("def f(docs):\n    return docs.select([])", "process_docs: no documents left in test"),
    ],
    ids=["no function", "syntax", "import", "raises", "nothing left"],
)
def test_so_is_the_task_s_own_code(load: Load, tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "utils.py").write_text(code)
    line = refused(load, {}, more=", process_docs: !function utils.f")
    assert line.startswith(f"task.names=broken: {tmp_path}/broken.yaml: {said.format(tmp_path)}")
    assert "docs['z']" not in code or f"({tmp_path}/utils.py, line 2)" in line


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ", process_results: !function utils.f",
            "process_results: KeyError: 'z' ({}/utils.py, line 2) (document 2)",
        ),
        (
            ', metric_list: [{"metric": "m", "aggregation": !function utils.g, '
            '"higher_is_better": true}], process_results: !function utils.h',
            "metric_list: KeyError: 'y' ({}/utils.py, line 5)",
        ),
    ],
    ids=["process_results", "aggregation"],
)
def test_so_is_what_fails_when_answers_are_scored(
    load: Load, tmp_path: Path, more: str, said: str
) -> None:
    (tmp_path / "utils.py").write_text(
        "def f(doc, results):\n    return {'acc': 1} if doc['a'] != '4' else doc['z']\n\n"
        "def g(items):\n    return {}['y']\n\n"
        "def h(doc, results):\n    return {'m': 1}\n"
    )
    with local_datasets(None):
        manager, loaded, plan = load({"broken": {}}, more)
        lm = Recording()
        build_requests(lm, manager, loaded, plan)
        with pytest.raises(UserError) as caught:
            finish(lm, manager, loaded, plan)
    (line,) = caught.value.problems
    assert line.startswith(f"task.names=broken: {tmp_path}/broken.yaml: {said.format(tmp_path)}")


def test_a_failure_while_the_model_is_asked_is_not_blamed_on_the_task(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("out of memory")

    manager, loaded, plan = load({"asked": {}})
    lm = Recording()
    build_requests(lm, manager, loaded, plan)
    asking = FunctionType(
        (lambda: broken()).__code__, {"__name__": HFLM.__module__}, "ask", (), (CellType(broken),)
    )
    monkeypatch.setattr(lm, "generate_until", lambda requests, **more: asking())
    with pytest.raises(RuntimeError, match="out of memory"):
        finish(lm, manager, loaded, plan)


def test_a_broken_task_of_a_group_is_named(plan: Plan, load: Load, tmp_path: Path) -> None:
    load({"fine": {}})
    (tmp_path / "both.yaml").write_text("group: both\ntask: [fine, broken]\n")
    bad = json.loads((tmp_path / "fine.yaml").read_text()) | {"task": "broken", "test_split": "x"}
    (tmp_path / "broken.yaml").write_text(json.dumps(bad))
    asking = replace(plan, evaluations=(replace(WAY, task="both"),))
    with local_datasets(None), pytest.raises(UserError) as caught:
        load_tasks(asking, task_manager(str(tmp_path), ["both"], {}))
    (line,) = caught.value.problems
    assert line.startswith(f"task.names=both: broken: {tmp_path}/broken.yaml: test_split: x: the d")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("task: lost\na: [\n", ": line 3: "),
        ("task: lost\n\tb: 1\n", ": line 2: found "),
        ("include: base.yaml\ntask: lost\n", "base.yaml: No such file or directory"),
        (
            "dataset_path: json\n",
            "lm-eval has no such task. Not read: {} (no `task: NAME` in it)",
        ),
    ],
    ids=["not closed", "tab", "include", "no name"],
)
def test_a_file_that_lm_eval_passes_over_is_named(
    plan: Plan, tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "lost.yaml"
    file.write_text(content)
    manager = IndexedTasks(str(tmp_path), False, {})
    problem = manager.problem("lost")
    assert problem.startswith("task.names=lost: ")
    assert str(file) in problem and said.format(file) in problem
    assert manager.fails("lost") is ("task: lost" in content)


def test_of_two_files_with_one_name_it_is_said_which_is_used(load: Load, tmp_path: Path) -> None:
    load({"twin": {}})
    (tmp_path / "again.yaml").write_text((tmp_path / "twin.yaml").read_text())
    manager, loaded, _ = load({"twin": {}})
    (warning,) = taken_twice(loaded, manager)
    assert warning.endswith(f"{tmp_path}/again.yaml is used, not {tmp_path}/twin.yaml")
    manager, loaded, _ = load({"alone": {}})
    assert taken_twice(loaded, manager) == []


def test_a_full_disk_is_no_mistake_of_the_task(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("wrapped") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("datasets.load_dataset", full)
    with (
        local_datasets(None, scratch="/tmp"),
        pytest.raises(OSError, match="no space left in /tmp"),
    ):
        load({"any": {}})


class Untemplated(Recording):
    """A model class like lm-eval's, whose tokenizer has no chat template."""

    apply_chat_template = HFLM.apply_chat_template
    chat_template_args: ClassVar[dict[str, Any]] = {}
    tokenizer_name = "none"
    _config = object()

    @property
    def tokenizer(self) -> Any:
        def missing(*arguments: Any, **options: Any) -> str:
            raise ValueError("tokenizer.chat_template is not set")

        return SimpleNamespace(apply_chat_template=missing)


def test_a_model_without_a_chat_template_is_named(load: Load, tmp_path: Path) -> None:
    manager, loaded, plan = load({"asked": {}}, apply_chat_template=True)
    with pytest.raises(UserError) as caught:
        build_requests(Untemplated(), manager, loaded, plan)
    assert caught.value.problems == (
        f"task.names=asked: {tmp_path}/asked.yaml: task.apply_chat_template: the model has no chat "
        "template that can be applied (tokenizer.chat_template is not set); for a model without "
        "one, set task.apply_chat_template=false (document 0)",
    )


@pytest.mark.parametrize("error", [AttributeError("gone"), MemoryError()])
def test_a_failure_of_the_runner_is_not_blamed_on_the_task(
    load: Load, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("runner.lm.examples.Examples.begin", broken)
    manager, loaded, plan = load({"asked": {}})
    with pytest.raises(type(error)):
        build_requests(Recording(), manager, loaded, plan)
