"""Versions of CANN, the driver and the firmware, from the files that their installers leave."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from runner.platforms.base import UNKNOWN
from runner.platforms.places import below_root, value

# Up to CANN 8.3 the first, from 8.5 on the second (a link to cann-<version>).
HOMES = (Path("/usr/local/Ascend/ascend-toolkit/latest"), Path("/usr/local/Ascend/cann"))
INSTALL_INFO, FALLBACK = "ascend_toolkit_install.info", "version.cfg"
RUNNING_VERSION = r"toolkit_running_version=\[[^:\]\n]*:([^\]\n]+)\]"


@dataclass(frozen=True)
class Found:
    """A version, or 'unknown' with the places that were checked."""

    version: str
    looked_at: tuple[str, ...] = ()


def cann() -> Found:
    """Return the version of the toolkit in use (`ASCEND_HOME_PATH`), else of the installed one."""
    in_use = os.environ.get("ASCEND_HOME_PATH")
    homes = [Path(in_use)] if in_use else []
    homes += [below_root(home) for home in HOMES]
    looked_at: list[str] = []
    for home in homes:
        directories = [home, *sorted(home.glob("*-linux"))]
        for name, pattern in ((INSTALL_INFO, r"version=(.*)"), (FALLBACK, RUNNING_VERSION)):
            for directory in directories:
                version = value(directory / name, pattern)
                if version:
                    return Found(version)
        looked_at.append(f"{home}/{{,*-linux/}}{{{INSTALL_INFO},{FALLBACK}}}")
    return Found(UNKNOWN, tuple(looked_at))


def driver() -> Found:
    """Return the NPU driver's version; in a container, the host's file must be mounted."""
    return _package("driver")


def firmware() -> Found:
    """Return the NPU firmware's version; few containers have it."""
    return _package("firmware")


def _package(name: str) -> Found:
    file = below_root(Path(f"/usr/local/Ascend/{name}/version.info"))
    for key in ("package_version", "Version"):
        version = value(file, rf"{key}=(.*)")
        if version:
            return Found(version)
    return Found(UNKNOWN, (str(file),))
