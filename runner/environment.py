"""Collects what a run ran on: versions, machine, the project's commit. Imports nothing heavy."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runner import packages, secrecy, variables
from runner.config.places import PACKAGE
from runner.installed import MOVING, SCORING, git
from runner.interpreters import OWN, Interpreter
from runner.packages import OURS, Code
from runner.platforms import Device, Platform
from runner.platforms.ascend import series_of
from runner.platforms.base import UNKNOWN
from runner.platforms.cpu import cpu_name

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
# Those that work outside the worker: the runner's own interpreter has them.
OUTSIDE = ("hydra-core", "omegaconf", "mlflow", OURS)
ON_PATH = "PYTHONPATH"


@dataclass(frozen=True)
class Environment:
    """Versions of installed packages (missing ones are left out), commits if known, the machine.

    Versions, commits and code are those of the worker's interpreter. With `engine.python`, `runner`
    has the versions of the runner's own interpreter that differ.
    """

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
    runner: dict[str, str] = field(default_factory=dict)

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


def collect(kind: Platform, python: Interpreter = OWN) -> Environment:
    """Collect the environment of a worker on this interpreter, without initialising a device.

    Raises:
        UserError: if the interpreter does not say what is installed.
    """
    found = python.look()
    versions = _versions(python)
    commit, dirty = _project_commit()
    return Environment(
        packages=versions,
        commits=found.commits,
        toolkit=kind.versions(),
        python=found.python,
        os=f"{platform.platform()} ({_distribution_name()})",
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        platform=kind.name,
        devices=tuple(kind.devices()),
        project_commit=commit,
        project_dirty=dirty,
        pip_freeze=found.frozen,
        variables=telling_variables(os.environ),
        unknown=kind.unknown(python),
        code=_code(found.code, python.python_path),
        runner=_differing(versions, found.python),
    )


def _versions(python: Interpreter) -> dict[str, str]:
    of = {name: OWN if name in OUTSIDE else python for name in PACKAGES}
    return {name: version for name, where in of.items() if (version := where.version(name))}


def _differing(worker: Mapping[str, str], python: str) -> dict[str, str]:
    """The versions in the runner's own interpreter that the worker's does not have."""
    own = {**_versions(OWN), "python": platform.python_version()}
    other = {**worker, "python": python}
    return {name: version for name, version in own.items() if other.get(name) != version}


def _code(installed: Mapping[str, Code], python_path: str) -> dict[str, Code]:
    """The worker executes this runner's code, also with another environment's interpreter."""
    found = {**installed, OURS: packages.own_code()}
    if ahead := packages.ahead_of_all(python_path):
        found[ON_PATH] = ahead
    return found


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
    commit = git(root, "rev-parse", "HEAD")
    changes = git(root, "status", "--porcelain")
    return commit, None if changes is None else bool(changes)
