"""One run, one directory: the names of its files, and writes that are whole or not there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from runner.errors import UserError

# Where Hydra's applications keep Hydra's own record of a run.
HYDRA = ".hydra"
# Building an adapter takes longer than using it, and a sweep reads the same types for each point.
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
# Where a sweep keeps the attempts that others have replaced.
EARLIER = "earlier"


class RunDirectory:
    """The disk is the truth; what MLflow shows is a copy of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.command = path / "command.txt"
        self.hydra = path / HYDRA
        self.plan = path / "plan.json"
        self.environment = path / "environment.json"
        self.outcome = path / "outcome.json"
        self.samples = path / "samples.parquet"
        self.likeliest = path / "likeliest.parquet"
        self.images = path / "images.parquet"
        self.sketches = path / "sketches"
        self.verdict = path / "verdict.json"
        self.report = path / "report.md"
        self.report_html = path / "report.html"
        self.engine_log = path / "engine.log"
        self.events = path / "events.jsonl"
        self.tracking = path / "tracking.json"
        self.tracked = path / "mlflow.json"

    @property
    def holds_a_run(self) -> bool:
        """Whether some run has claimed the directory."""
        return self.config.exists()

    def claim(self) -> None:
        """Create the directory for one run alone; refuse one that already holds a run.

        Raises:
            UserError: if it cannot be written, or a run's files are in it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.config.touch(exist_ok=False)  # of several processes one can do that
            self._write_first()
        except OSError as error:
            if isinstance(error, FileExistsError) and self.path.is_dir():
                raise UserError(
                    f"output_dir={self.path}: already contains a run; choose another directory"
                ) from error
            raise UserError(f"output_dir={self.path}: not writable ({error.strerror})") from error

    def _write_first(self) -> None:
        """A full disk takes a file's name, but nothing in it."""
        try:
            write_atomic(self.config, "")
        except OSError:
            self.config.unlink()
            raise


def remove_empty(directory: Path) -> None:
    """Hydra made it, and the folders above it: where nothing was started, nothing is left."""
    below = os.path.relpath(directory)
    with suppress(OSError):
        if below.startswith(os.pardir):
            directory.rmdir()
        else:
            os.removedirs(below)


def write_atomic(file: Path, content: str | bytes) -> None:
    """Write beside the file, flush to disk, rename: a reader sees the old or the new, whole."""
    data = content.encode() if isinstance(content, str) else content
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with beside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(file: Path, value: Any) -> None:
    """A dataclass (or plain data) as indented JSON."""
    write_atomic(file, _adapter(type(value)).dump_json(value, indent=2) + b"\n")


def read_json(file: Path, kind: type[Any]) -> Any:
    """The dataclass that `write_json` wrote, checked against its type."""
    return _adapter(kind).validate_json(file.read_bytes())


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
