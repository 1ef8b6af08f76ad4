"""A prepared directory is whole or it is refused: nothing in between is used."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from runner import digest
from runner.errors import UserError
from runner.inputs import manifest
from runner.inputs.manifest import Manifest, Repository

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 400, "code/model.py": b"x"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "carried" / "weights" / "owner" / "name"
    for path, content in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return tmp_path / "carried"


def described(directory: Path) -> Repository:
    root = directory / "weights" / "owner" / "name"
    files = tuple(manifest.describe(root, path, None) for path in FILES)
    return Repository("owner/name", "hf", "model", "0" * 40, "weights/owner/name", files)


def empty() -> Manifest:
    return Manifest(manifest.SCHEMA, "2026-11-22T00:00:00+00:00", "0.1.0")


@pytest.fixture
def repository(directory: Path) -> Repository:
    return described(directory)


def problem(directory: Path, repository: Repository, whole: bool = False) -> str:
    (found,) = manifest.problems(directory, repository, whole)
    assert found.startswith(f"source.dir={directory}: ")
    assert "\n" not in found
    return found


def test_written_and_read_back(directory: Path, repository: Repository) -> None:
    written = empty().having(repository)
    manifest.write(directory, written)
    assert manifest.read(directory) == written


def test_no_manifest(tmp_path: Path) -> None:
    assert manifest.read(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}'])
def test_a_broken_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / manifest.NAME).write_text(content)
    with pytest.raises(UserError, match=r"cannot be read .*run prepare again"):
        manifest.read(tmp_path)


OUTSIDE = ("../x", "a/../../x", "/etc/x", "", ".", "a\\..\\x", "a\0b")


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_file_outside_of_the_directory(
    directory: Path, repository: Repository, path: str
) -> None:
    file = replace(repository.files[0], path=path)
    manifest.write(directory, empty().having(replace(repository, files=(file,))))
    with pytest.raises(UserError, match="lists a file outside the directory"):
        manifest.read(directory)


@pytest.mark.parametrize(
    "place", [*OUTSIDE, "weights", "weights/", "data", "other/name", "weights/../../x"]
)
def test_a_repository_outside_of_the_directory(
    directory: Path, repository: Repository, place: str
) -> None:
    manifest.write(directory, empty().having(replace(repository, directory=place)))
    with pytest.raises(UserError, match="lists a file outside the directory"):
        manifest.read(directory)


def test_a_manifest_of_another_schema(directory: Path) -> None:
    manifest.write(directory, Manifest(99, "", ""))
    with pytest.raises(UserError, match="has schema 99, but this runner reads 1"):
        manifest.read(directory)


def test_a_repository_replaces_what_lay_there(repository: Repository) -> None:
    newer = Repository("owner/name", "hf", "model", "1" * 40, repository.directory, ())
    other = Repository("owner/other", "hf", "dataset", "2" * 40, "data/owner/other", ())
    both = empty().having(repository).having(other).having(newer)
    assert both.at(repository.directory) == newer
    assert both.at("data/owner/other") == other
    assert both.without(repository.directory).at(repository.directory) is None


@pytest.mark.parametrize("whole", [False, True])
def test_a_carried_directory_is_as_it_was(
    directory: Path, repository: Repository, tmp_path: Path, whole: bool
) -> None:
    shutil.copytree(directory, tmp_path / "elsewhere")
    assert manifest.problems(tmp_path / "elsewhere", repository, whole) == []


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("position", [0, 50_000, -1])
def test_one_changed_byte(
    directory: Path, repository: Repository, whole: bool, position: int
) -> None:
    file = directory / "weights/owner/name/model.safetensors"
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)
    said = problem(directory, repository, whole)
    assert f"{file}: content differs from the manifest (different hash)" in said


def test_a_missing_a_cut_and_a_further_file(directory: Path, repository: Repository) -> None:
    root = directory / "weights/owner/name"
    (root / "config.json").unlink()
    assert f"{root / 'config.json'}: missing" in problem(directory, repository)
    (root / "config.json").write_bytes(FILES["config.json"] + b"\n")
    assert "config.json: size differs from the manifest" in problem(directory, repository)
    (root / "config.json").write_bytes(FILES["config.json"])
    (root / "model-00002.safetensors").write_bytes(b"")
    assert "model-00002.safetensors: not in the manifest; remove" in problem(directory, repository)


def test_what_a_file_system_leaves_is_no_further_file(
    directory: Path, repository: Repository
) -> None:
    root = directory / "weights/owner/name"
    (root / ".DS_Store").write_bytes(b"")
    (root / "code/__pycache__").mkdir()
    (root / "code/__pycache__/model.pyc").write_bytes(b"")
    assert manifest.problems(directory, repository, whole=True) == []


def test_nothing_there_at_all(directory: Path, repository: Repository) -> None:
    shutil.rmtree(directory / "weights")
    assert "missing" in problem(directory, repository)


def test_many_files_are_counted(directory: Path, repository: Repository) -> None:
    root = directory / "weights/owner/name"
    for number in range(5):
        (root / f"{number}.json").write_text("")
    assert "and 2 more: not in the manifest" in problem(directory, repository)


def test_a_large_file_is_sampled(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ends and its middle show; between the samples only `source.verify=whole` looks."""
    monkeypatch.setattr(digest, "WHOLE_FILE_BYTES", 10_000)
    monkeypatch.setattr(digest, "SAMPLE_BYTES", 100)
    monkeypatch.setattr(digest, "SAMPLES", 65)
    repository = described(directory)
    sampled = {file.path: file.sampled for file in repository.files}
    assert sampled["model.safetensors"] is not None
    assert sampled["config.json"] is None
    file = directory / "weights/owner/name/model.safetensors"
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)
    assert manifest.problems(directory, repository, whole=False) == []
    assert "different hash" in problem(directory, repository, whole=True)
    content[200] ^= 1
    content[-1] ^= 1
    file.write_bytes(content)
    assert "different hash" in problem(directory, repository, whole=False)
