"""Which of lm-eval's task files are read, and which tasks a kind of model cannot answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runner.config.places import PACKAGE
from runner.errors import UserError
from runner.lm.tasks import Managers, load_tasks, task_manager
from runner.plan import Evaluation, Plan

CANARY = str(PACKAGE / "canary" / "tasks")


def test_tasks_of_a_directory_are_found_without_lm_evals_thousands() -> None:
    held: Managers = {}
    manager = task_manager(CANARY, ["canary", "canary_count"], held)
    assert {name.partition("_")[0] for name in manager.all_tasks} == {"canary"}
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
        ("vllm", "generate_until", "model.backend=vllm: shapes shows images; choose model.backend"),
        ("hf", "multiple_choice", "model.backend=vllm: shapes shows images; choose model.backend"),
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
