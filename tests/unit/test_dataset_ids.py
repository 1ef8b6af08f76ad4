"""The data sets behind lm-eval's task names, and where `datasets` is made to read them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import datasets
import pytest
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

from runner.config.task_files import FILE_READERS
from runner.errors import UserError
from runner.inputs import manifest
from runner.inputs.manifest import Manifest
from runner.lm.dataset_ids import data_sets
from runner.lm.datasets import local_datasets

README = b"---\nconfigs:\n- config_name: main\n  data_files: main/*.jsonl\n---\n"
ROW = b'{"question": "1 + 1?", "answer": "2"}\n'


@pytest.mark.slow
def test_groups_tags_and_what_a_group_lays_over_its_tasks(tmp_path: Path) -> None:
    task = "output_type: generate_until\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n"
    for name, content in {
        "base": f"task: ids_base\ntag: ids_tag\ndataset_path: owner/base\n{task}",
        "other": f"task: ids_other\ntag: ids_tag\ndataset_path: owner/other\n{task}"
        "dataset_kwargs: {revision: v2}\n",
        "group": "group: ids_group\ntask:\n- ids_base\n- task: ids_other\n"
        "  dataset_path: owner/moved\n- group: inline\n  task: [ids_tag]\n",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(content)
    found = data_sets(["ids_group", "ids_tag", "gsm8k", "mmmu_val", "ceval-valid"], str(tmp_path))
    assert found["ids_group"] == {"owner/base": None, "owner/moved": "v2", "owner/other": "v2"}
    assert found["ids_tag"] == {"owner/base": None, "owner/other": "v2"}
    assert found["gsm8k"] == {"openai/gsm8k": None}
    assert found["mmmu_val"] == found["mmmu_val_art"] == {"MMMU/MMMU": None}
    assert found["ceval-valid"] == {"ceval/ceval-exam": None}
    assert len([name for name in found if name.startswith("ceval-valid_")]) == 52


@pytest.mark.slow
def test_what_cannot_be_prepared_is_named() -> None:
    with pytest.raises(UserError) as caught:
        data_sets(["squadv2", "gsm8k"], None)
    (problem,) = caught.value.problems
    assert problem.startswith("task.names=squadv2: written in Python; prepare cannot fetch it")
    with pytest.raises(UserError, match=r"task.names=gsm8: .* Did you mean 'gsm8k'\?"):
        data_sets(["gsm8"], None)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    directory = tmp_path / "carried"
    data = directory / "data" / "owner" / "questions"
    (data / "main").mkdir(parents=True)
    (data / "README.md").write_bytes(README)
    (data / "main" / "test.jsonl").write_bytes(ROW)
    manifest.write(directory, Manifest(manifest.SCHEMA, "", ""))
    return directory


def test_a_prepared_data_set_is_read_by_its_id(prepared: Path) -> None:
    with local_datasets(str(prepared / "data")):
        loaded = datasets.load_dataset("owner/questions", "main")
    assert list(loaded["train"]) == [{"question": "1 + 1?", "answer": "2"}]


def test_a_data_set_that_was_not_prepared_is_not_taken_from_the_others(prepared: Path) -> None:
    with (
        local_datasets(str(prepared / "data")),
        pytest.raises(UserError, match="data set owner/other is not in it; prepare the task"),
    ):
        datasets.load_dataset("owner/other", "main")


def test_a_directory_of_the_user_s_may_be_the_data_set_itself(prepared: Path) -> None:
    with local_datasets(str(prepared / "data" / "owner" / "questions")):
        assert datasets.load_dataset("any/name", "main")["train"].num_rows == 1


def test_a_task_of_the_user_s_about_the_package_s_own_data_set() -> None:
    with local_datasets(None):
        assert datasets.load_dataset("canary", "place")["validation"].num_rows > 0


def test_the_readers_are_those_of_the_installed_package() -> None:
    assert set(_PACKAGED_DATASETS_MODULES) <= FILE_READERS | {"cache", "generator"}


@pytest.mark.parametrize(
    ("reader", "name", "content", "options", "row"),
    [
        ("json", "a.txt", '{"q": "1"}\n', {}, {"q": "1"}),
        ("csv", "a.csv", "q;a\n1;2\n", {"delimiter": ";"}, {"q": 1, "a": 2}),
        ("text", "a.jsonl", '{"q": 1}\n', {}, {"text": '{"q": 1}'}),
        ("text", "a.raw", "b\n\nc\n", {"sample_by": "document"}, {"text": "b\n\nc\n"}),
    ],
)
def test_a_reader_reads_its_own_files_and_not_the_directory_of_data_sets(
    prepared: Path,
    tmp_path: Path,
    reader: str,
    name: str,
    content: str,
    options: dict[str, str],
    row: dict[str, str],
) -> None:
    (tmp_path / name).write_text(content)
    with local_datasets(str(prepared / "data"), scratch=str(tmp_path)):
        files = {"test": str(tmp_path / name)}
        loaded = datasets.load_dataset(reader, data_files=files, **options)
        assert list(loaded["test"]) == [row]


def test_a_file_that_is_edited_within_a_tick_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    for text in ("old", "new"):
        file.write_text(json.dumps({"q": text}))
        os.utime(file, (1, 1))
        with local_datasets(None):
            assert datasets.load_dataset("json", data_files=str(file))["train"]["q"][0] == text


def test_modelscope_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.hubs.modelscope.installed", lambda: False)
    with (
        local_datasets(None, "modelscope"),
        pytest.raises(UserError, match="pip install 'modelscope"),
    ):
        datasets.load_dataset("owner/questions")
