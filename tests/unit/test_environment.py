"""What a run ran on, as it is installed and checked out, not as a variable says."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runner import environment as module
from runner.environment import Environment, collect
from runner.platforms import PLATFORMS, Device
from runner.rundir import read_json, write_json

NOBODY = {
    "GIT_AUTHOR_NAME": "nobody",
    "GIT_AUTHOR_EMAIL": "nobody@example.org",
    "GIT_COMMITTER_NAME": "nobody",
    "GIT_COMMITTER_EMAIL": "nobody@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments],
        env={**os.environ, **NOBODY},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def repository(directory: Path) -> str:
    """A repository with one commit, whose id is returned."""
    directory.mkdir(parents=True)
    git(directory, "init", "--quiet")
    (directory / "file").write_text("one")
    git(directory, "add", "file")
    git(directory, "commit", "--quiet", "-m", "one")
    return git(directory, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def here() -> Environment:
    return collect(PLATFORMS["cpu"])


def test_versions_are_those_that_are_installed(here: Environment) -> None:
    assert here.packages["hydra-core"] == importlib.metadata.version("hydra-core")
    assert here.packages["numpy"] == importlib.metadata.version("numpy")
    for name, version in here.packages.items():
        assert importlib.metadata.version(name) == version
    assert "torch-npu" in here.packages or "torch-npu" not in {
        each.partition("==")[0] for each in here.pip_freeze
    }


def test_collecting_imports_none_of_them() -> None:
    code = (
        "import sys; from runner.environment import collect;"
        "from runner.platforms import PLATFORMS;"
        "collect(PLATFORMS['cpu']);"
        "print([m for m in ('torch','vllm','lm_eval','mlflow','ray') if m in sys.modules])"
    )
    checkout = Path(module.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_the_machine(here: Environment) -> None:
    assert here.python == platform.python_version()
    assert here.cores == len(os.sched_getaffinity(0))
    assert here.platform == "cpu"
    assert here.cpu
    assert here.hardware == f"{here.cpu}, {here.cores} cores"


def test_everything_installed_is_listed_once(here: Environment) -> None:
    assert f"numpy=={importlib.metadata.version('numpy')}" in here.pip_freeze
    assert list(here.pip_freeze) == sorted(set(here.pip_freeze))


def test_it_survives_the_disk(here: Environment, tmp_path: Path) -> None:
    write_json(tmp_path / "environment.json", here)
    assert read_json(tmp_path / "environment.json", Environment) == here


def test_devices_are_counted_and_named(environment: Environment) -> None:
    assert environment.hardware == "2 × Ascend 910B4"
    assert environment.chip == "Ascend 910B4"


def test_no_device_is_not_hidden(environment: Environment) -> None:
    bare = replace(environment, devices=())
    assert bare.hardware == "Kunpeng-920, 192 cores"
    assert bare.chip == "unknown"
    assert replace(bare, platform="cpu", devices=(Device(0, "x"),)).chip == "x"


# The project's own commit


@pytest.fixture
def nothing_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing all that is installed takes a third of a second each time."""
    monkeypatch.setattr(importlib.metadata, "distributions", list)


@pytest.fixture
def project(nothing_listed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "checkout"
    monkeypatch.setattr(module, "PACKAGE", root / "runner")
    return root


def test_a_clean_checkout(project: Path) -> None:
    commit = repository(project)
    found = collect(PLATFORMS["cpu"])
    assert (found.project_commit, found.project_dirty) == (commit, False)


@pytest.mark.parametrize("change", ["edited", "new"])
def test_a_dirty_checkout(project: Path, change: str) -> None:
    commit = repository(project)
    (project / ("file" if change == "edited" else "new")).write_text("two")
    found = collect(PLATFORMS["cpu"])
    assert (found.project_commit, found.project_dirty) == (commit, True)


def test_no_checkout(project: Path) -> None:
    project.mkdir()
    found = collect(PLATFORMS["cpu"])
    assert (found.project_commit, found.project_dirty) == (None, None)


def test_a_machine_without_git(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(project)
    monkeypatch.setenv("PATH", str(project))
    found = collect(PLATFORMS["cpu"])
    assert (found.project_commit, found.project_dirty) == (None, None)


# The commits of what is installed

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def site(nothing_listed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site directory ahead of all others, with vllm-ascend installed in it."""
    directory = tmp_path / "site"
    info = directory / "vllm_ascend-0.23.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-ascend\nVersion: 0.23.0\n")
    monkeypatch.syspath_prepend(str(directory))
    return directory


def origin(site: Path, content: object) -> None:
    file = site / "vllm_ascend-0.23.0.dist-info" / "direct_url.json"
    file.write_text(json.dumps(content))


def commit_found() -> str | None:
    return collect(PLATFORMS["cpu"]).commits.get("vllm-ascend")


def test_a_release_has_no_commit(site: Path) -> None:
    assert commit_found() is None
    assert collect(PLATFORMS["cpu"]).packages["vllm-ascend"] == "0.23.0"


def test_installed_from_version_control(site: Path) -> None:
    origin(
        site,
        {
            "url": "https://github.com/vllm-project/vllm-ascend",
            "vcs_info": {"vcs": "git", "commit_id": COMMIT, "requested_revision": "main"},
        },
    )
    assert commit_found() == COMMIT


@pytest.mark.parametrize("name", ["checkout", "my checkout"])
def test_installed_as_an_editable_checkout(site: Path, tmp_path: Path, name: str) -> None:
    commit = repository(tmp_path / name)
    origin(site, {"url": (tmp_path / name).as_uri(), "dir_info": {"editable": True}})
    assert commit_found() == commit


def test_an_editable_directory_without_version_control(site: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    origin(site, {"url": (tmp_path / "plain").as_uri(), "dir_info": {"editable": True}})
    assert commit_found() is None


@pytest.mark.parametrize(
    ("content", "commit"),
    [
        ("__commit_id__ = commit_id = 'g0123abc'\n", "0123abc"),
        (f"commit_id: str | None\n__commit_id__ = commit_id = 'g{COMMIT}'\n", COMMIT),
        ("commit_id = '0123abc'\n", "0123abc"),
        ("__commit_id__ = commit_id = None\n", None),
        ("version = '0.23.0'\n", None),
    ],
)
def test_built_from_a_checkout(site: Path, content: str, commit: str | None) -> None:
    (site / "vllm_ascend").mkdir()
    (site / "vllm_ascend" / "_version.py").write_text(content)
    assert commit_found() == commit
