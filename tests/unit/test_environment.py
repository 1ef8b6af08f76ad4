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
from runner import installed
from runner.environment import Environment, collect, telling_variables
from runner.packages import Code
from runner.platforms import PLATFORMS, Device
from runner.platforms.ascend import Ascend
from runner.rundir import read_json, write_json
from tests.imitation import imitate

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
    assert environment.hardware == "2 × Ascend 910B4 (A2, 64 GiB HBM)"
    assert environment.chip == "Ascend 910B4"
    assert (environment.series, environment.memory) == ("A2", "64 GiB")


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ([Device(0, "Ascend 310P3", 21525 << 20)], "1 × Ascend 310P3 (310P, 21 GiB)"),
        ([Device(0, "Ascend 910")] * 16, "16 × Ascend 910 (A3)"),
        ([Device(0, "Ascend")] * 2, "2 × Ascend"),
        ([Device(0, "NVIDIA H200", 143771 << 20)], "1 × NVIDIA H200 (140 GiB)"),
        (
            [Device(0, "NVIDIA A100", 80 << 30), Device(1, "NVIDIA H200", 140 << 30)],
            "1 × NVIDIA A100 (80 GiB), 1 × NVIDIA H200 (140 GiB)",
        ),
    ],
)
def test_what_is_known_of_a_device_is_named(
    environment: Environment, devices: list[Device], said: str
) -> None:
    assert replace(environment, devices=tuple(devices)).hardware == said


def test_no_device_is_not_hidden(environment: Environment) -> None:
    bare = replace(environment, devices=())
    assert bare.hardware == "Kunpeng-920, 192 cores"
    assert (bare.chip, bare.series, bare.memory) == ("unknown", "unknown", "unknown")
    assert replace(bare, platform="cpu", devices=(Device(0, "x"),)).chip == "x"


def test_an_ascend_machine_is_collected_whole(
    nothing_listed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = imitate(tmp_path, "A3", firmware=None)
    for name in ("ASCEND_RT_VISIBLE_DEVICES", "ASCEND_HOME_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PATH", "ASCEND_MACHINE_ROOT"):
        monkeypatch.setenv(name, machine.environment[name])
    monkeypatch.setenv("HCCL_DETERMINISTIC", "true")
    monkeypatch.syspath_prepend(str(machine.site))
    found = collect(Ascend())
    assert found.hardware == "16 × Ascend 910 (A3, 64 GiB HBM)"
    assert found.toolkit == {
        "npu-smi": "25.5.1",
        "cann": "9.1.0",
        "driver": "25.5.1",
        "firmware": "unknown",
    }
    assert list(found.unknown) == ["firmware"]
    assert found.variables["HCCL_DETERMINISTIC"] == "true"
    assert found.packages["triton-ascend"] == "3.2.2"
    write_json(tmp_path / "environment.json", found)
    assert read_json(tmp_path / "environment.json", Environment) == found


# Variables


def test_telling_variables_are_kept() -> None:
    telling = {
        "ASCEND_RT_VISIBLE_DEVICES": "0,1",
        "ATB_MATMUL_SHUFFLE_K_ENABLE": "0",
        "HCCL_DETERMINISTIC": "true",
        "HF_ENDPOINT": "https://hf-mirror.com",
        "HF_HUB_OFFLINE": "1",
        "LCCL_DETERMINISTIC": "1",
        "OMP_NUM_THREADS": "8",
        "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
        "TASK_QUEUE_ENABLE": "2",
        "USE_MODELSCOPE_HUB": "0",
        "VLLM_BATCH_INVARIANT": "1",
    }
    others = {"HOME": "/root", "PATH": "/bin", "MY_VLLM_X": "1", "ATB": "1", "HF_HUB": "x"}
    assert telling_variables({**others, **telling}) == telling


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "VLLM_API_KEY", "VLLM_S3_ACCESS_KEY_ID", "VLLM_X_TOKEN", "ASCEND_PASSWORD"],
)
def test_secrets_are_not(name: str) -> None:
    assert telling_variables({name: "s3cret"}) == {}


def test_a_password_in_an_address_is_cut_out() -> None:
    found = telling_variables({"HF_ENDPOINT": "https://me:s3cret@mirror.example/hf"})
    assert found == {"HF_ENDPOINT": "https://mirror.example/hf"}


# The project's own commit


@pytest.fixture
def nothing_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing all that is installed takes a third of a second each time."""
    monkeypatch.setattr(installed, "_frozen", tuple)


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


def test_what_moves_numbers_is_part_of_the_engine(environment: Environment) -> None:
    variables = {
        "HCCL_DETERMINISTIC": "true",
        "OMP_NUM_THREADS": "1",
        "ASCEND_RT_VISIBLE_DEVICES": "0,1",
        "ASCEND_HOME_PATH": "/usr/local/Ascend/cann",
        "HCCL_CONNECT_TIMEOUT": "600",
        "HCCL_SOCKET_IFNAME": "eth0",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "HF_ENDPOINT": "https://mirror",
    }
    moving = replace(environment, variables=variables).moving
    assert moving == {"HCCL_DETERMINISTIC": "true", "OMP_NUM_THREADS": "1"}


def test_the_code_of_what_computes_and_asks_is_collected(here: Environment) -> None:
    assert {"transformers", "lm-eval", "ascend-accuracy-runner"} <= set(here.code)
    assert "mlflow" not in here.code


def test_what_is_not_as_released_is_said(environment: Environment) -> None:
    code = {"vllm": Code("ab" * 32, "edited: vllm/x.py"), "torch": Code("cd" * 32)}
    assert replace(environment, code=code).edited == {
        "vllm": "edited: vllm/x.py (content abababababab)"
    }
