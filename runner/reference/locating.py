"""Locate a run in a directory or in MLflow (id or alias); runs in MLflow are downloaded."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from runner import secrecy
from runner.channel.sender import Download, FindAlias, FindNoise
from runner.errors import UserError, cause
from runner.rundir import RunDirectory
from runner.tracking.courier import Courier
from runner.tracking.sender_process import NotSent

KEY = "verdict.reference"
RUN_ID = re.compile(r"[0-9a-f]{32}")
# What a verdict and a comparison read of a run; its log and its events stay where they are.
NEEDED = ("plan.json", "outcome.json", "samples.parquet")
WANTED = (
    "environment.json",
    "verdict.json",
    "config.yaml",
    "command.txt",
    "images.parquet",
    "likeliest.parquet",
)
# What MLflow may take in all to say which run is meant, and to hand over its files.
LOOKUP_S, DOWNLOAD_S = 30.0, 300.0


@dataclass(frozen=True)
class Alias:
    """`baseline@qwen2_5_vl_7b/mmmu_val`: a name for the run that stands for a model and a task."""

    name: str
    model: str
    task: str

    @classmethod
    def parse(cls, text: str) -> Alias | None:
        name, at, rest = text.partition("@")
        model, slash, task = rest.partition("/")
        return cls(name, model, task) if at and slash and name and model and task else None


@dataclass(frozen=True)
class Located:
    """A run's local directory, and its MLflow run id if it has one.

    `uri` is the MLflow store that it was copied from; empty if the user gave a directory.
    """

    directory: Path
    run_id: str | None = None
    uri: str = ""


def locate(name: str, uri: str, courier: Courier, key: str = KEY) -> Located:
    """Return the run's directory; a run in MLflow is first copied to the user's cache.

    `key` is the setting that names the run. MLflow is asked through the courier, and waited for as
    long as LOOKUP_S and DOWNLOAD_S say.

    Raises:
        UserError: if there is no such run, or MLflow cannot be asked.
    """
    directory = Path(name).expanduser()
    if directory.is_dir():
        return Located(directory.resolve(), _tracked_id(directory))
    if name.startswith("["):
        raise UserError(
            f"{key}={name}: takes one run; only verdict.reference with verdict.rule=paired takes a "
            "list of runs"
        )
    alias = Alias.parse(name)
    if alias is None and not RUN_ID.fullmatch(name):
        raise UserError(
            f"{key}={name}: no such directory, and neither an MLflow run id (32 hexadecimal "
            "digits) nor an alias (NAME@model/task)"
        )
    if not uri:
        raise UserError(
            f"{key}={name}: needs an MLflow store; set tracking.uri, or give a directory"
        )
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise UserError(f"{key}={name}: needs an MLflow store, but there is none at {uri}")
    run_id = name
    try:
        if alias is not None:
            run_id = courier.ask(FindAlias(uri, alias.name, alias.model, alias.task), LOOKUP_S)
            if not RUN_ID.fullmatch(run_id):  # it names a directory of the cache
                raise UserError(f"{key}={name}: MLflow returned an invalid run id ({run_id!r})")
        return Located(_fetched(run_id, uri, courier), run_id, uri)
    except NotSent as error:
        raise UserError(
            f"{key}={name}: MLflow at tracking.uri={secrecy.shown_address(uri)} has no such run, "
            f"or is unreachable ({error}); give the run's directory instead, which does not need "
            "MLflow"
        ) from error
    except OSError as error:
        raise UserError(
            f"{key}={name}: cannot store its files ({cause(error)}); set XDG_CACHE_HOME to another "
            "directory"
        ) from error


def directory_of(name: str, uri: str, courier: Courier) -> Path:
    """Return the directory of a run that a command was given, not a setting.

    Raises:
        UserError: as `locate`.
    """
    try:
        return locate(name, uri, courier).directory
    except UserError as error:
        raise UserError(*(each.removeprefix(f"{KEY}=") for each in error.problems)) from error


def stored_noise(located: Located, courier: Courier, key: str) -> tuple[str, ...]:
    """Return the ids of the noise runs that MLflow stores with a run.

    A directory is used without MLflow, so it has none. `key` is the setting that lists others.

    Raises:
        UserError: if MLflow cannot be asked.
    """
    if not located.uri or located.run_id is None:
        return ()
    try:
        return courier.ask(FindNoise(located.uri, located.run_id), LOOKUP_S)
    except NotSent as error:
        raise UserError(
            f"{KEY}: MLflow at tracking.uri={secrecy.shown_address(located.uri)} did not return "
            f"the noise runs of run {located.run_id} ({error}); list them in "
            f"{key}, or set it to null to use none"
        ) from error


def _tracked_id(directory: Path) -> str | None:
    """Of a directory that was sent to MLflow."""
    file = RunDirectory(directory).tracked
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fetched(run_id: str, uri: str, courier: Courier) -> Path:
    """The run's files in the cache, whole or not there: what a run has left does not change."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "ascend-accuracy-runner" / "runs" / run_id
    if all((directory / name).is_file() for name in NEEDED):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{run_id}.", dir=directory.parent) as part:
        wanted = Download(uri, run_id, Path(part), NEEDED, WANTED)
        found = courier.ask(wanted, DOWNLOAD_S)
        directory.mkdir(exist_ok=True)
        for name in found:
            Path(part, name).replace(directory / name)
    return directory
