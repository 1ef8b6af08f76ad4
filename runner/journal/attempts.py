"""The journal's files: one per attempt, locked while the attempt runs.

`DIRECTORY/<engine fingerprint>[-<repeat>]/<start>-<pid>.answers`: a line a record, made of a CRC-32
and what it covers: an answer, or the run that goes on with the file. A file that no living process
has locked is an attempt that died, or was stopped: the next one takes it over.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import lock_descriptor

ENDING, CORRUPT = ".answers", ".corrupt"
FIRST_LINE = b"answers 1"


class CorruptError(ValueError):
    """A file that is corrupt before its end, or not a journal."""


@dataclass(frozen=True)
class Attempt:
    """A journal file for the list; `state` is running, stopped or corrupt."""

    file: Path
    state: str
    size: int
    changed: float

    @property
    def engine(self) -> str:
        return self.file.parent.name


def attempts(directory: Path) -> list[Attempt]:
    """Return all files of the journal, the oldest first."""
    found = []
    for file in directory.glob("*/*"):
        if file.suffix not in (ENDING, CORRUPT):
            continue
        with suppress(FileNotFoundError):  # a run may end meanwhile
            stat = file.stat()
            state = "corrupt" if file.suffix == CORRUPT else "running" if held(file) else "stopped"
            found.append(Attempt(file, state, stat.st_size, stat.st_mtime))
    return sorted(found, key=lambda each: each.changed)


def prune(found: list[Attempt], most_bytes: float, oldest: float = 0.0) -> list[Attempt]:
    """Remove unlocked files older than `oldest`, then the oldest above `most_bytes`."""
    removed = []
    size = sum(each.size for each in found)
    for each in found:
        if each.state == "running" or not (size > most_bytes or each.changed < oldest):
            continue
        descriptor = seize(each.file) if each.state == "stopped" else None
        if each.state == "stopped" and descriptor is None:
            continue  # another run has just taken it over
        each.file.unlink(missing_ok=True)
        with suppress(OSError):  # others are in it
            each.file.parent.rmdir()
        if descriptor is not None:
            os.close(descriptor)
        size -= each.size
        removed.append(each)
    return removed


def create(directory: Path) -> tuple[Path, int]:
    """Create and lock a new file for writing; return its path and descriptor."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}"
    for number in range(1000):
        file = directory / f"{stem}{f'-{number}' if number else ''}{ENDING}"
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(file, flags, 0o644)
        except FileExistsError:
            continue
        if _lock(descriptor, file):  # otherwise somebody is just looking at it
            return file, descriptor
    raise FileExistsError(f"{directory}/{stem}: a thousand attempts in a second")


def seize(file: Path, tries: int = 1) -> int | None:
    """Lock the file and return its descriptor; None if another process holds it or it is gone.

    Whoever only looks holds a file for a moment: with more `tries`, that is waited for.
    """
    for _ in range(tries - 1):
        if (descriptor := seize(file)) is not None or not file.exists():
            return descriptor
        time.sleep(0.05)
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        return descriptor if _lock(descriptor, file) else None
    except OSError:
        return None


def held(file: Path) -> bool:
    """Return whether a living process holds the file."""
    descriptor = seize(file)
    if descriptor is None:
        return file.exists()
    os.close(descriptor)
    return False


def _lock(descriptor: int, file: Path) -> bool:
    """Lock the open file; close it and return False if another process holds it or it is gone.

    Raises:
        OSError: if the file system has no locks.
    """
    locked = False
    try:
        if lock_descriptor(descriptor, blocking=False):
            with suppress(FileNotFoundError):
                locked = os.path.samestat(os.fstat(descriptor), os.stat(file))
        return locked
    finally:
        if not locked:
            os.close(descriptor)


def line(content: bytes) -> bytes:
    """Return a record's line in the file; the content has no line break."""
    return b"%08x %s\n" % (zlib.crc32(content), content)


def records(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, content) of each complete record; skip a truncated one at the end.

    Raises:
        CorruptError: if the first line is not a journal's, or whole records follow a broken one.
    """
    offset, broken = 0, -1
    for number, each in enumerate(lines):
        checksum, space, record = each.removesuffix(b"\n").partition(b" ")
        whole = each.endswith(b"\n") and space and checksum == b"%08x" % zlib.crc32(record)
        if number == 0 and each.endswith(b"\n") and not (whole and record == FIRST_LINE):
            raise CorruptError("its first line is not a journal header")
        if whole and broken >= 0:
            raise CorruptError(f"corrupt at byte {broken}, with valid records after it")
        if not whole and broken < 0:
            broken = offset
        if whole and number:
            yield offset + len(checksum) + 1, record
        offset += len(each)
