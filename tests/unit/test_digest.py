"""Files are known by their content: not by where they lie, not by when they were written."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from runner import digest
from runner.digest import (
    digest_directories,
    digest_files,
    digest_path,
    last_changes,
    last_changes_of_data,
    sampled_sha256,
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "below").mkdir(parents=True)
    (root / "a").write_bytes(b"first")
    (root / "below" / "b").write_bytes(b"second")
    return root


def of_files(root: Path) -> str:
    return digest_files(root, [file for file in root.rglob("*") if file.is_file()])


def test_the_same_wherever_it_lies_and_whenever_it_was_written(files: Path, tmp_path: Path) -> None:
    before = of_files(files), digest_directories(str(files))
    moved = tmp_path / "moved"
    shutil.copytree(files, moved)
    os.utime(moved / "a", (0, 0))
    assert (of_files(moved), digest_directories(str(moved))) == before


def test_the_order_and_number_of_mentions_do_not_matter(files: Path) -> None:
    one, other = files / "a", files / "below" / "b"
    assert digest_files(files, [one, other]) == digest_files(files, [other, one, other])


@pytest.mark.parametrize("change", ["byte", "name", "more", "less", "swap"])
def test_any_change_shows(files: Path, change: str) -> None:
    before = of_files(files), digest_directories(str(files))
    first, second = files / "a", files / "below" / "b"
    if change == "byte":
        first.write_bytes(b"First")
    elif change == "name":
        first.rename(files / "c")
    elif change == "more":
        (files / "below" / "c").write_bytes(b"")
    elif change == "less":
        second.unlink()
    else:
        first.write_bytes(b"second")
        second.write_bytes(b"first")
    assert of_files(files) != before[0]
    assert digest_directories(str(files)) != before[1]


def test_where_one_file_ends_and_the_next_begins_shows(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"3")
    before = of_files(tmp_path)
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"23")
    assert of_files(tmp_path) != before


def test_a_large_file_is_read_again_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(digest.SAMPLE_BYTES + 1))
    first, before = of_files(tmp_path), file.stat()
    with monkeypatch.context() as unread:
        unread.setattr(digest, "whole_sha256", None)
        assert of_files(tmp_path) == first
    time.sleep(0.02)
    with file.open("rb+") as stream:
        stream.write(b"changed")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert of_files(tmp_path) != first


def test_a_path_is_a_file_or_a_directory(files: Path) -> None:
    before = _both(files)
    (files / "a").write_bytes(b"First")
    assert all(one != other for one, other in zip(before, _both(files), strict=True))


def _both(files: Path) -> tuple[str, str]:
    return digest_path(files), digest_path(files / "a")


def test_what_a_hub_keeps_beside_its_files_is_no_content(files: Path) -> None:
    before = digest_directories(str(files))
    (files / ".cache" / "huggingface").mkdir(parents=True)
    (files / ".cache" / "huggingface" / "a.metadata").write_text("2026-11-29")
    assert digest_directories(str(files)) == before


def test_compiled_files_are_no_content(files: Path) -> None:
    before = digest_directories(str(files))
    (files / "__pycache__").mkdir()
    (files / "__pycache__" / "utils.pyc").write_bytes(b"x")
    assert digest_directories(str(files)) == before


def test_no_directories_no_digest() -> None:
    assert digest_directories(None, None) == ""


def test_data_and_tasks_are_not_taken_for_each_other(files: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").write_bytes(b"x")
    one, two = str(files), str(other)
    assert len({digest_directories(*each) for each in ((one, two), (two, one), (one, None))}) == 3


@pytest.mark.parametrize("position", [0, 500_000, 999_999])
def test_a_sampled_file_shows_its_ends_and_its_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    monkeypatch.setattr(digest, "WHOLE_FILE_BYTES", 10_000)
    monkeypatch.setattr(digest, "SAMPLE_BYTES", 1_000)
    monkeypatch.setattr(digest, "SAMPLES", 65)
    content = bytearray(1_000_000)
    (tmp_path / "big").write_bytes(content)
    before = of_files(tmp_path)
    content[position] = 1
    (tmp_path / "big").write_bytes(content)
    assert of_files(tmp_path) != before


def test_a_sampled_file_shows_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "WHOLE_FILE_BYTES", 10_000)
    monkeypatch.setattr(digest, "SAMPLE_BYTES", 1_000)
    (tmp_path / "big").write_bytes(bytes(20_000))
    before = of_files(tmp_path)
    (tmp_path / "big").write_bytes(bytes(20_001))
    assert of_files(tmp_path) != before


def test_a_directory_too_large_to_read_is_known_by_names_and_sizes(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.digest.WHOLE_DIRECTORY_BYTES", 5)
    before = digest_directories(str(files))
    (files / "a").write_bytes(b"FIRST")
    assert digest_directories(str(files)) == before
    (files / "a").write_bytes(b"longer")
    assert digest_directories(str(files)) != before


def test_a_sampled_file_that_was_touched_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.digest.WHOLE_FILE_BYTES", 10)
    (tmp_path / "config.json").write_text("{}")
    assert last_changes(tmp_path) == ""
    (tmp_path / "model.safetensors").write_bytes(bytes(20))
    before = last_changes(tmp_path)
    os.utime(tmp_path / "config.json", (1, 1))
    assert last_changes(tmp_path) == before
    os.utime(tmp_path / "model.safetensors", (1, 1))
    assert last_changes(tmp_path) != before


def test_a_sampled_file_that_was_rewritten_with_its_time_set_back_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.digest.WHOLE_FILE_BYTES", 10)
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(20))
    os.utime(file, ns=(1, 1))
    before = last_changes(tmp_path)
    time.sleep(0.02)
    file.write_bytes(b"1" * 20)
    os.utime(file, ns=(1, 1))
    assert last_changes(tmp_path) != before


def test_data_that_is_only_listed_shows_its_changes(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert last_changes_of_data(files, files / "a") == ""
    monkeypatch.setattr("runner.digest.WHOLE_DIRECTORY_BYTES", 5)
    before = last_changes_of_data(files)
    time.sleep(0.02)
    (files / "a").write_bytes(b"FIRST")
    assert last_changes_of_data(files) != before


def test_many_large_files_are_sampled_by_less_and_each_still_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (
        ("WHOLE_FILE_BYTES", 10_000),
        ("SAMPLE_BYTES", 1_000),
        ("SAMPLED_BYTES", 64 * 1_000),
        ("SMALLEST_SAMPLE_BYTES", 100),
    ):
        monkeypatch.setattr(digest, name, size)
    asked: list[int | None] = []

    def sampled(file: Path, sample: int | None = None) -> str | None:
        asked.append(sample)
        return sampled_sha256(file, sample)

    monkeypatch.setattr(digest, "sampled_sha256", sampled)
    for count in (1, 2, 20):
        for number in range(count):
            (tmp_path / f"shard{number}").write_bytes(bytes(20_000))
        digest._read_once.cache_clear()
        before = of_files(tmp_path)
    assert asked == [1_000, *[500] * 2, *[100] * 20]
    (tmp_path / "shard7").write_bytes(bytes(10_000) + b"1" * 10_000)
    assert of_files(tmp_path) != before
