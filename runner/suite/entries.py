"""The entries of a suite as they were asked for: their overrides, and entries.json."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from runner.config.notify import NotifyConfig
from runner.config.overrides import in_yaml, settled
from runner.config.suite import REQUIRED, SuiteEntryConfig
from runner.errors import UserError
from runner.rundir import read_json, write_json

NAME = "entries.json"
# Choices that an entry makes itself.
OWN = ("model", "task")


@dataclass(frozen=True)
class Entry:
    """One entry; its number is that of its run's directory."""

    number: int
    name: str
    model: str
    task: str
    tier: str
    overrides: tuple[str, ...] = ()
    timeout: float | None = None

    @property
    def required(self) -> bool:
        return self.tier == REQUIRED


@dataclass(frozen=True)
class Asked:
    """entries.json: the suite as last started, and when (Unix time) it was started first.

    `key` identifies the night in MLflow, because directories of several machines, or of several
    nights in one workspace, can have the same name.
    """

    name: str
    started: float
    entries: tuple[Entry, ...]
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    key: str = ""


def is_suite(directory: Path) -> bool:
    """Whether the directory is that of one night of a suite."""
    return (directory / NAME).is_file()


def read(directory: Path) -> Asked:
    """Read entries.json.

    Raises:
        UserError: if it is no suite's directory, or the file can't be read.
    """
    file = directory / NAME
    try:
        asked: Asked = read_json(file, Asked)
    except FileNotFoundError:
        raise UserError(f"{directory}: not a suite's directory ({NAME} is missing)") from None
    except ValueError as error:
        raise UserError(
            f"{file}: truncated, or written by another version of the runner"
        ) from error
    return asked


def write(directory: Path, name: str, entries: Iterable[Entry], notify: NotifyConfig) -> None:
    """Write entries.json; a suite that is resumed keeps its start and its key."""
    before = read(directory) if is_suite(directory) else None
    started = before.started if before is not None else time.time()
    key = before.key if before is not None else uuid.uuid4().hex
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / NAME, Asked(name, started, tuple(entries), notify, key))


def numbered(entries: Mapping[str, SuiteEntryConfig]) -> tuple[Entry, ...]:
    """Return the entries in their order."""
    return tuple(
        Entry(
            number,
            name,
            entry.model,
            entry.task,
            entry.tier,
            tuple(entry.overrides),
            entry.timeout,
        )
        for number, (name, entry) in enumerate(entries.items())
    )


def overrides_of(entries: Iterable[Entry], arguments: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each entry's run.

    `arguments` are the overrides from the command line. They come after the entry's own, so they
    take precedence.

    Raises:
        UserError: if they would change what an entry is, or ask for several values.
    """
    given = [each for each in arguments if not _key(each).startswith("suite.")]
    problems = [_problem(each) for each in given]
    own: list[list[str]] = []
    for entry in entries:
        try:
            words = settled(entry.overrides)
        except UserError as error:
            where = f"suite.entries.{entry.name}.overrides"
            problems += [f"{where}: {each}" for each in error.problems]
            continue
        problems += [_several(each, f"suite.entries.{entry.name}.overrides: ") for each in words]
        timeout = [] if entry.timeout is None else [f"limits.run_s={in_yaml(entry.timeout)}"]
        chosen = [f"model={entry.model}", f"task={entry.task}", *words, *timeout]
        own.append([*chosen, *given, f"suite.entry={entry.name}", f"suite.tier={entry.tier}"])
    if found := [each for each in problems if each]:
        raise UserError(*found)
    return own


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _problem(argument: str) -> str:
    """Of an override from the command line."""
    key = _key(argument)
    if key in OWN:
        return (
            f"{argument}: each entry of a suite chooses its own {key}; change suite.entries, or "
            "leave out suite=…"
        )
    if key == "sweep" and argument != "sweep=none":
        return f"{argument}: a suite is no sweep; use either sweep=… or suite=…"
    return _several(argument, "")


def _several(override: str, where: str) -> str:
    """Of an override that stands for several runs."""
    try:
        (parsed,) = OverridesParser.create().parse_overrides([override])
    except OverrideParseException:  # reported when the point is composed
        return ""
    if not parsed.is_sweep_override():
        return ""
    return f"{where}{override}: an entry of a suite is one run; give one value"
