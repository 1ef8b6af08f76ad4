"""Which local files task files name: an evaluation is known by what is in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config.places import DATA_SETS
from runner.inputs.task_data import named_by_tasks


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("a.jsonl", "b.jsonl", "c.csv"):
        (tmp_path / "data" / name).write_text("{}\n")
    (tmp_path / "tasks").mkdir()
    return tmp_path / "tasks"


@pytest.fixture
def write(tasks: Path) -> Callable[..., Path]:
    def written(name: str, **content: Any) -> Path:
        file = tasks / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content))
        return file

    return written


def named(tasks: Path, *names: str, data_dir: str | None = None) -> set[str]:
    found = named_by_tasks(names, [str(tasks), None], data_dir)
    return {str(path.relative_to(tasks.parent)) for path in found}


@pytest.mark.parametrize(
    ("data_files", "found"),
    [
        ("data/a.jsonl", {"data/a.jsonl"}),
        ("{root}/data/a.jsonl", {"data/a.jsonl"}),
        ("file://{root}/data/a.jsonl", {"data/a.jsonl"}),
        ("json://x.json::{root}/data/c.csv", {"data/c.csv"}),
        (["data/a.jsonl", "data/b.jsonl"], {"data/a.jsonl", "data/b.jsonl"}),
        ({"train": "data/a.jsonl", "test": ["data/c.csv"]}, {"data/a.jsonl", "data/c.csv"}),
        ("data/*.jsonl", {"data/a.jsonl", "data/b.jsonl"}),
        ({"test": "**/*.csv"}, {"data/c.csv"}),
        ("data", {"data"}),
        ("data/absent.jsonl", set()),
        ("https://example.org/data/a.jsonl", set()),
        ("hf://datasets/x/y/a.jsonl", set()),
    ],
)
def test_data_files_in_every_form(
    tasks: Path, write: Callable[..., Path], data_files: Any, found: set[str]
) -> None:
    filled = yaml.safe_load(yaml.safe_dump(data_files).replace("{root}", str(tasks.parent)))
    write("quiz.yaml", task="quiz", dataset_path="json", dataset_kwargs={"data_files": filled})
    assert named(tasks, "quiz") == found


@pytest.mark.parametrize("path", ["data", "./data", "{root}/data"])
def test_a_data_set_that_is_a_directory(tasks: Path, write: Callable[..., Path], path: str) -> None:
    write("quiz.yaml", task="quiz", dataset_path=path.replace("{root}", str(tasks.parent)))
    assert named(tasks, "quiz") == {"data"}


def test_a_readers_name_is_no_directory(tasks: Path, write: Callable[..., Path]) -> None:
    (tasks.parent / "json").mkdir()
    write("quiz.yaml", task="quiz", dataset_path="json")
    assert named(tasks, "quiz") == set()


def test_other_settings_are_no_paths_unless_they_are_absolute(
    tasks: Path, write: Callable[..., Path]
) -> None:
    there = str(tasks.parent / "data" / "c.csv")
    write("quiz.yaml", task="quiz", test_split="data", doc_to_text="data", fewshot={"from": there})
    assert named(tasks, "quiz") == {"data/c.csv"}


def test_relative_paths_are_looked_up_below_the_data_directory_too(
    tasks: Path, write: Callable[..., Path]
) -> None:
    (tasks.parent / "more").mkdir()
    (tasks.parent / "more" / "d.json").write_text("{}")
    write("quiz.yaml", task="quiz", dataset_kwargs={"data_files": "d.json"})
    assert named(tasks, "quiz") == set()
    assert named(tasks, "quiz", data_dir=str(tasks.parent / "more")) == {"more/d.json"}


def test_only_what_is_asked_counts(tasks: Path, write: Callable[..., Path]) -> None:
    write("one.yaml", task="one", dataset_path="data/a.jsonl")
    write("below/two.yaml", task="two", dataset_path="data/b.jsonl")
    assert named(tasks, "one") == {"data/a.jsonl"}
    assert named(tasks, "two") == {"data/b.jsonl"}
    assert named(tasks, "three") == set()


def test_includes_are_followed_and_count_where_they_lie_outside(
    tasks: Path, write: Callable[..., Path]
) -> None:
    write("../shared/base.yaml", include="root.yaml", dataset_path="json")
    write("../shared/root.yaml", dataset_kwargs={"data_files": "data/a.jsonl"})
    write("quiz.yaml", task="quiz", include="../shared/base.yaml")
    assert named(tasks, "quiz") == {"shared/base.yaml", "shared/root.yaml", "data/a.jsonl"}


def test_files_that_include_each_other_end(tasks: Path, write: Callable[..., Path]) -> None:
    write("quiz.yaml", task="quiz", include=["quiz.yaml", "other.yaml"])
    write("other.yaml", include="quiz.yaml", dataset_path="data/a.jsonl")
    assert named(tasks, "quiz") == {"data/a.jsonl"}


def test_groups_and_tags_stand_for_their_tasks(tasks: Path, write: Callable[..., Path]) -> None:
    write("one.yaml", task="one", tag=["easy"], dataset_path="data/a.jsonl")
    write("two.yaml", task="two", tag="easy", dataset_path="data/b.jsonl")
    inline = {"task": "new", "dataset_path": "data/c.csv"}
    write("suite.yaml", group="suite", task=[{"group": "inner", "task": ["one"]}, inline])
    assert named(tasks, "easy") == {"data/a.jsonl", "data/b.jsonl"}
    assert named(tasks, "suite") == {"data/a.jsonl", "data/c.csv"}


def test_a_task_file_may_be_named_itself(tasks: Path, write: Callable[..., Path]) -> None:
    file = write("../elsewhere/quiz.yaml", task="quiz", dataset_path="data/a.jsonl")
    assert named(tasks, str(file)) == {"data/a.jsonl", "elsewhere/quiz.yaml"}


def test_code_beside_a_task_file_outside_counts(tasks: Path) -> None:
    outside = tasks.parent / "elsewhere"
    (outside / "more").mkdir(parents=True)
    for name in ("utils.py", "more/parts.py", "unused.py"):
        (outside / name).write_text("")
    (outside / "quiz.yaml").write_text(
        "task: quiz\nprocess_docs: !function utils.docs\n"
        "metric_list: [{metric: !function more.parts.score}, {metric: !function json.dumps}]\n"
    )
    assert named(tasks, str(outside / "quiz.yaml")) == {
        "elsewhere/quiz.yaml",
        "elsewhere/utils.py",
        "elsewhere/more/parts.py",
    }


def test_functions_are_passed_over_and_broken_files_too(tasks: Path) -> None:
    (tasks / "quiz.yaml").write_text(
        "task: quiz\ndataset_path: data/a.jsonl\nprocess_docs: !function utils.docs\n"
        "custom: !other {a: 1}\n"
    )
    (tasks / "broken.yaml").write_text("task: quiz\n  bad: [\n")
    (tasks / "bytes.yaml").write_bytes(b"task: quiz\n\xff\xfe")
    (tasks / "list.yaml").write_text("- task: quiz\n")
    assert named(tasks, "quiz") == {"data/a.jsonl"}


def test_the_package_s_own_data_set_needs_no_directory(write: Callable[..., Path]) -> None:
    file = write("own.yaml", task="own", dataset_path="canary", dataset_name="place")
    assert named_by_tasks(["own"], [str(file.parent)], None) == (DATA_SETS / "canary",)
