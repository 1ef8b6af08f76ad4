"""Which of lm-eval's task files are read, and which tasks a kind of model cannot answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runner.config.places import PACKAGE
from runner.config.task_files import named
from runner.errors import UserError
from runner.lm.datasets import local_datasets
from runner.lm.tasks import Managers, load_tasks, task_manager
from runner.plan import Evaluation, Plan
from runner.present.lm_eval_command import lm_eval_command

CANARY = str(PACKAGE / "canary" / "tasks")


def test_tasks_of_a_directory_are_found_without_lm_evals_thousands() -> None:
    held: Managers = {}
    manager = task_manager(CANARY, ["canary", "canary_count"], held)
    assert {"canary", "canary_shape"} <= set(manager.all_tasks)
    assert "gsm8k" not in manager.all_tasks
    assert task_manager(CANARY, ["canary_shape"], held) is manager


@pytest.mark.slow
def test_a_group_with_a_member_elsewhere_is_whole(tmp_path: Path) -> None:
    (tmp_path / "group.yaml").write_text("group: ours\ntask: [gsm8k]\n")
    (tmp_path / "task.yaml").write_text("task: mine\ntag: gsm8k_variants\ndataset_path: x\n")
    held: Managers = {}
    manager = task_manager(str(tmp_path), ["ours"], held)
    assert {"ours", "mine", "gsm8k"} <= set(manager.all_tasks)
    assert task_manager(str(tmp_path), ["gsm8k"], held) is manager
    assert list(task_manager(str(tmp_path), ["mine"], held).all_tasks) != manager.all_tasks


@pytest.mark.parametrize(
    ("backend", "kind", "said"),
    [
        ("vllm", "generate_until", "model.backend=vllm: shapes has images; use model.backend"),
        ("hf", "multiple_choice", "model.backend=vllm: shapes has images; use model.backend"),
        ("vllm-vlm", "multiple_choice", "multiple_choice about images, which lm-eval's vllm-vlm"),
        ("hf-multimodal", "loglikelihood", "loglikelihood about images, which lm-eval's hf-multim"),
        ("vllm-vlm", "loglikelihood_rolling", "task.names=shapes: loglikelihood_rolling about ima"),
        ("vllm-vlm", "generate_until", None),
        ("hf-multimodal", "generate_until", None),
    ],
    ids=str,
)
def test_images_need_a_model_that_sees_and_answers_that_are_generated(
    plan: Plan, tmp_path: Path, backend: str, kind: str, said: str | None
) -> None:
    (tmp_path / "data.json").write_text(json.dumps({"image": "a.png", "answer": "red"}))
    task = {
        "task": "shapes",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "data.json")}},
        "test_split": "test",
        "output_type": kind,
        "doc_to_text": "<image>Which colour?",
        "doc_to_target": "{{answer}}",
        "doc_to_image": ["image"],
        "doc_to_choice": ["red", "blue"],
    }
    (tmp_path / "shapes.yaml").write_text(json.dumps(task))
    asked = Evaluation("shapes", None, False, False, None, "auto", {})
    asking = replace(plan, backend=backend, evaluations=(asked,))
    manager = task_manager(str(tmp_path), ["shapes"], {})
    if said is None:
        (loaded,) = load_tasks(asking, manager)
        assert (loaded.expected, loaded.whole) == (1, 1)
        return
    with pytest.raises(UserError) as refused:
        load_tasks(asking, manager)
    (line,) = refused.value.problems
    assert said in line


def test_a_task_file_s_path_stands_for_its_task(plan: Plan, tmp_path: Path) -> None:
    """Also where other files nearby, or lm-eval itself, have a task of that name."""
    (tmp_path / "data.jsonl").write_text('{"q": "?"}\n')
    task = {
        "task": "gsm8k",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "data.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "mine",
        "doc_to_target": "",
    }
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(task))
    (tmp_path / "also.yaml").write_text(json.dumps(task | {"doc_to_text": "theirs"}))
    names, files = named([str(file), "arc_easy"])
    assert (names, files) == (["gsm8k", "arc_easy"], {"gsm8k": str(file)})
    asked = Evaluation("gsm8k", None, False, False, None, "auto", {})
    for include_path in (None, str(tmp_path)):
        manager = task_manager(include_path, ["gsm8k"], {}, files)
        with local_datasets(None):
            (loaded,) = load_tasks(replace(plan, evaluations=(asked,)), manager)
        assert loaded.leaves["gsm8k"].config.doc_to_text == "mine"
    command = lm_eval_command(replace(plan, evaluations=(asked,), task_files=files))
    assert f"--tasks {file}" in command


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        ("dataset_path: json", "it has neither `task: NAME` nor `group: NAME`"),
        ("task: [a", "line 1: "),
    ],
    ids=["missing", "nameless", "broken"],
)
def test_a_path_without_a_task_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "t.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=rf"^task\.names={file}: .*{said}"):
        named([str(file)])


def test_a_group_s_path_stands_for_the_group(tmp_path: Path) -> None:
    file = tmp_path / "g.yml"
    file.write_text("group: ours\ntask: [a, b]\nx: !function utils.f\n")
    assert named([str(file)]) == (["ours"], {"ours": str(file)})


@pytest.mark.parametrize("beside", [True, False], ids=["beside the task file", "where one works"])
def test_relative_data_files_lie_beside_the_task_file_or_in_the_working_directory(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    tasks, work = tmp_path / "tasks", tmp_path / "work"
    for directory in (tasks, work / "sub"):
        directory.mkdir(parents=True)
    (work / "sub" / "d.jsonl").write_text('{"q": "of the working directory"}\n')
    if beside:
        (tasks / "sub").mkdir()
        (tasks / "sub" / "d.jsonl").write_text('{"q": "of the task"}\n')
    (tasks / "t.yaml").write_text(
        "task: t\ndataset_path: json\ndataset_kwargs: {data_files: {test: ['sub/*.jsonl']}}\n"
        "test_split: test\noutput_type: generate_until\ndoc_to_text: q\ndoc_to_target: q\n"
    )
    monkeypatch.chdir(work)
    asked = Evaluation("t", None, False, False, None, "auto", {})
    manager = task_manager(str(tasks), ["t"], {})
    with local_datasets(CANARY):
        (loaded,) = load_tasks(replace(plan, evaluations=(asked,)), manager)
    (document,) = loaded.leaves["t"].eval_docs
    assert document["q"] == ("of the task" if beside else "of the working directory")
