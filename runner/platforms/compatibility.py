"""Check that the installed versions are compatible, by the table in compatibility.yaml.

vllm-ascend checks none of it: with another torch-npu or CANN it fails at start in words of its own,
or runs with kernels that nobody has compared.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from runner.platforms.base import UNKNOWN

TABLE = Path(__file__).with_name("compatibility.yaml")
ENGINE = "vllm-ascend"
# What a caller looks up to ask about it.
PACKAGES = (ENGINE, "vllm", "torch", "torch-npu", "triton-ascend", "transformers")


@cache
def table() -> dict[str, dict[str, str]]:
    """Return the known sets of versions by vllm-ascend release, the newest first."""
    sets = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {row[ENGINE]: {name: str(version) for name, version in row.items()} for row in sets}


def problems(
    packages: Mapping[str, str], cann: str, python: str | None = None
) -> list[tuple[str, str]]:
    """Return each version that does not match the installed vllm-ascend, with its fix.

    Nothing without vllm-ascend, whose absence is another complaint.
    """
    installed = packages.get(ENGINE)
    if installed is None:
        return []
    belongs = _set_of(installed)
    if belongs is None:
        return [
            (
                f"{ENGINE} {installed} is not a version that this runner knows "
                f"({', '.join(table())})",
                "install one of these",
            )
        ]
    found_here = []
    for name, (found, wanted) in _pairs(packages, cann, belongs).items():
        if _release(found) != _release(wanted) and _release(found) is not None:
            what = f"{name} {found} is installed, but {ENGINE} {belongs[ENGINE]} expects {wanted}"
            found_here.append((what, _cure(name, wanted, belongs[ENGINE])))
    here = python or platform.python_version()
    if "python" in belongs and not SpecifierSet(belongs["python"]).contains(here):
        what = f"this is Python {here}, but {ENGINE} {belongs[ENGINE]} needs {belongs['python']}"
        found_here.append((what, _image(belongs[ENGINE])))
    return found_here


def notes(packages: Mapping[str, str], cann: str) -> list[str]:
    """Return small differences that are accepted: another .postN, a pre-release, unreadable."""
    installed = packages.get(ENGINE)
    belongs = _set_of(installed) if installed is not None else None
    if installed is None or belongs is None:
        return []
    release = belongs[ENGINE]
    lines = []
    for name, (found, wanted) in {
        ENGINE: (installed, release),
        **_pairs(packages, cann, belongs),
    }.items():
        if found == UNKNOWN:
            lines.append(f"{name}'s version is unknown; {ENGINE} {release} expects {wanted}")
        elif _release(found) is None:
            lines.append(f"{name} {found} cannot be compared with the expected {wanted}")
        elif _release(found) == _release(wanted) and not _same(found, wanted):
            lines.append(f"{name} {found} is installed, {wanted} was tested; a small difference")
    return lines


def belonging(packages: Mapping[str, str]) -> dict[str, str]:
    """Return the expected versions for the installed vllm-ascend; empty if absent or unknown."""
    installed = packages.get(ENGINE)
    return (_set_of(installed) if installed is not None else None) or {}


def _set_of(installed: str) -> dict[str, str] | None:
    """Of the rows with its three numbers, the newest that is not newer, else the oldest."""
    release = _release(installed)
    rows = [row for version, row in table().items() if _release(version) == release]
    older = [row for row in rows if Version(row[ENGINE]) <= Version(installed)]
    return next(iter(older or rows[-1:]), None)


def _pairs(
    packages: Mapping[str, str], cann: str, belongs: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Found and wanted, for each thing of the set that is here, vllm-ascend itself left out."""
    here = {name: packages[name] for name in PACKAGES[1:] if name in packages}
    pairs = {name: (found, belongs[name]) for name, found in here.items() if name in belongs}
    return {**pairs, "CANN": (cann, belongs["cann"])}


def _release(version: str) -> tuple[int, ...] | None:
    """Three numbers: 8.3.RC2 is of 8.3.0, 2.10.0.post4 of 2.10.0; None where it is no version."""
    try:
        release = Version(version).release
    except InvalidVersion:
        return None
    return (*release, 0, 0)[:3]


def _same(found: str, wanted: str) -> bool:
    """Local parts aside: 2.10.0+cpu is 2.10.0."""
    return Version(Version(found).public) == Version(wanted)


def _cure(name: str, wanted: str, release: str) -> str:
    if name == "CANN":
        return f"install CANN {wanted}, or {_image(release)}"
    return f"pip install '{name}=={wanted}', or {_image(release)}"


def _image(release: str) -> str:
    return f"use the image quay.io/ascend/vllm-ascend:v{release}"
