"""Virtual environments for `engine.python`: interpreters of their own, made in a second."""

from __future__ import annotations

import sysconfig
import venv
from pathlib import Path


def empty_environment(directory: Path) -> Path:
    """Make an environment with nothing installed; returns its interpreter."""
    venv.create(directory, with_pip=False, symlinks=True)
    return directory / "bin" / "python"


def same_environment(directory: Path) -> Path:
    """Make an environment with the packages of this one; returns its interpreter.

    What is put into its own site directory comes before them.
    """
    python = empty_environment(directory)
    (site_of(python) / "these.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def site_of(python: Path) -> Path:
    """The site directory of an environment."""
    return next(python.parents[1].glob("lib/python3*/site-packages"))


def pretend(python: Path, distribution: str, version: str) -> None:
    """Let another version of a distribution be installed in the environment."""
    info = site_of(python) / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata)
