"""Which of `datasets`' caches serves what: local files may change, and their times may not tell."""

from __future__ import annotations

import json
import os
from pathlib import Path

import datasets
import pytest

from runner.lm.datasets import _is_local, local_datasets


def asked(file: Path) -> list[str]:
    with local_datasets(None):
        loaded = datasets.load_dataset("json", data_files={"test": str(file)})
    return list(loaded["test"]["q"])


def test_a_file_that_was_edited_without_a_new_time_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "shared")
    file = tmp_path / "quiz.jsonl"
    for question in ("one", "two"):
        file.write_text(json.dumps({"q": question}) + "\n")
        os.utime(file, ns=(1, 1))
        assert asked(file) == [question]
    assert not list(tmp_path.glob("shared/*"))


@pytest.mark.parametrize(
    ("path", "options", "local"),
    [
        ("json", {"data_files": "quiz.jsonl"}, True),
        ("csv", {"data_files": {"test": ["a.csv"]}, "sep": ";"}, True),
        ("json", {"data_files": "https://example.org/quiz.jsonl"}, False),
        ("parquet", {"data_files": {"test": ["hf://datasets/x/y/*.parquet"]}}, False),
        ("org/name", {}, False),
        ("org/name", {"data_files": "quiz.jsonl"}, False),
        ("/", {}, True),
    ],
)
def test_what_is_read_from_this_machine(path: str, options: dict[str, str], local: bool) -> None:
    assert _is_local(path, options) is local
