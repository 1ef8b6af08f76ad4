"""The wheel stands alone: code, configuration and canary work where there is no checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.originals import BARE, write

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]


def in_wheel_environment(
    site: Path, directory: Path, *command: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in `directory` with the wheel ahead of everything, this checkout included."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist)]
    done = subprocess.run([*build, str(CHECKOUT)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel alone; dependencies come from the environment of this test."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, "--target", str(site), str(wheel)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return site


def test_every_file_of_conf_is_packaged(contents: set[str]) -> None:
    expected = {
        f"runner/{path.relative_to(CHECKOUT).as_posix()}"
        for path in (CHECKOUT / "conf").rglob("*.yaml")
        if "local" not in path.parts
    }
    assert expected
    assert expected <= contents


def test_canary_is_packaged(contents: set[str]) -> None:
    assert "runner/canary/weights/model.safetensors" in contents
    assert "runner/canary/weights/config.json" in contents
    assert any(re.fullmatch(r"runner/canary/datasets/.+\.parquet", name) for name in contents)
    assert any(re.fullmatch(r"runner/canary/tasks/.+\.yaml", name) for name in contents)


def test_the_chinese_catalogue_is_packaged(contents: set[str]) -> None:
    assert "runner/locale/zh/LC_MESSAGES/messages.po" in contents


def test_chat_tasks_are_packaged(contents: set[str]) -> None:
    directory = CHECKOUT / "runner" / "tasks"
    files = [file for file in directory.iterdir() if file.is_file()]
    assert len(files) >= 14
    assert {f"runner/tasks/{file.name}" for file in files} <= contents


def test_nothing_else_is_packaged(contents: set[str]) -> None:
    top = {name.split("/")[0] for name in contents}
    packages = {name for name in top if not name.endswith(".dist-info")}
    assert packages == {"runner", "hydra_plugins"}
    # Hydra's plugins share that package: ours is one module in it, and nothing that claims it.
    ours = {name for name in contents if name.startswith("hydra_plugins/")}
    assert ours == {"hydra_plugins/accuracy_runner.py"}
    assert not [name for name in contents if "__pycache__" in name]


def test_a_sweep_far_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    """The launcher is found, and so are the ready sweeps."""
    words = ["sweep=canary", "preflight_only=true", "tracking=off", "model.pretrained=/nowhere"]
    done = in_wheel_environment(installed, tmp_path, "-m", "runner", *words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("REFUSED") == 4


def test_help_far_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    done = in_wheel_environment(installed, tmp_path, "-m", "runner", "--help")
    assert done.returncode == 0, done.stdout + done.stderr
    (models,) = re.findall(r"^model: (.+)$", done.stdout, flags=re.MULTILINE)
    assert "canary_vl" in models.split(", ")
    assert list(tmp_path.iterdir()) == []


def test_packaged_configuration_is_used(installed: Path, tmp_path: Path) -> None:
    done = in_wheel_environment(
        installed,
        tmp_path,
        "-c",
        "import runner; from runner.config.loading import config_directory as directory;"
        "print(runner.__file__, directory(), sep='\\n')",
    )
    assert done.returncode == 0, done.stderr
    package, configuration = (Path(line) for line in done.stdout.splitlines())
    assert package == installed / "runner" / "__init__.py"
    assert configuration == installed / "runner" / "conf"


def test_script_is_installed(installed: Path, tmp_path: Path) -> None:
    script = installed / "bin" / "accuracy-runner"
    done = in_wheel_environment(installed, tmp_path, str(script), "--help")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "python -m runner" in done.stdout


def test_the_original_tests_place_is_taken_far_from_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "Bare-1B.yaml", {**BARE, "model_name": "/nowhere"})
    words = ["-m", "pytest", "-p", "runner.pytest_plugin", "--config", str(file)]
    done = in_wheel_environment(installed, tmp_path, *words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "model.pretrained=/nowhere: " in done.stdout
    assert "1 failed" in done.stdout
