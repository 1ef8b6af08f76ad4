"""Who files are, by their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

# Above this a file is sampled: 16 GB would take longer to hash than to load.
WHOLE_FILE_BYTES = 256 << 20
SAMPLES, SAMPLE_BYTES = 64, 1 << 20
# Of hundreds of shards each sample is smaller: all of them together are read in a second or two.
SAMPLED_BYTES, SMALLEST_SAMPLE_BYTES = 2 << 30, 64 << 10
WHOLE_DIRECTORY_BYTES = 2 << 30
# Files are read side by side: hashing, and a shared file system, each take one of them at a time.
READERS = 16


def digest_files(root: Path, files: Iterable[Path]) -> str:
    """SHA-256 over names (relative to root) and contents.

    A file over 256 MiB goes in as its size and 64 samples of up to 1 MiB spread evenly, less where
    there are more than 32 such files: retrained or requantized weights differ everywhere, a single
    flipped byte may go unseen.
    """
    wanted = sorted(set(files))
    large = sum(_is_large(file) for file in wanted)
    room = SAMPLED_BYTES // SAMPLES // max(large, 1)
    sample = min(SAMPLE_BYTES, max(SMALLEST_SAMPLE_BYTES, room))
    total = hashlib.sha256()
    with side_by_side() as pool:
        contents = pool.map(partial(_content, sample=sample), wanted)
        for file, content in zip(wanted, contents, strict=True):
            total.update(f"{file.relative_to(root)}\0{file.stat().st_size}\0".encode())
            total.update(content)
    return total.hexdigest()


def side_by_side() -> ThreadPoolExecutor:
    """Threads to read many files in."""
    return ThreadPoolExecutor(min(READERS, os.cpu_count() or 1))


def digest_path(path: Path) -> str:
    """SHA-256 of a file, or of every file below a directory, wherever it lies."""
    if path.is_file():
        return digest_files(path.parent, [path])
    return digest_files(path, _files(path))


def digest_directories(*directories: str | None) -> str:
    """SHA-256 over every file below the directories; the empty string where there are none.

    A directory of more than 2 GiB, which may hold every data set of a team, goes in by its files'
    names and sizes: what of it was asked shows in the prompts' own digest after the run.
    """
    roots = [Path(name).expanduser() for name in directories if name is not None]
    digests = [digest_data(root) for root in roots]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest() if digests else ""


def digest_data(path: Path) -> str:
    """SHA-256 of a file, or of a directory as `digest_directories` says."""
    files = list(_files(path))
    if path.is_file() or not _only_listed(files):
        return digest_path(path)
    listing = sorted((str(file.relative_to(path)), file.stat().st_size) for file in files)
    return hashlib.sha256(repr(listing).encode()).hexdigest()


def last_changes(*paths: Path) -> str:
    """SHA-256 over the state of each large file, which a digest samples; empty where none is large.

    What samples may not see is seen here: a file's inode and the time of its last change tell that
    it was replaced or rewritten, even with its size and modification time set back. They say
    nothing on another machine.
    """
    return _states((path, file) for path in paths for file in _files(path) if _is_large(file))


def last_changes_of_data(*paths: Path) -> str:
    """The same for data, whose large directories are only listed."""
    found = []
    for path in paths:
        files = list(_files(path))
        listed = _only_listed(files)
        found += [(path, file) for file in files if listed or _is_large(file)]
    return _states(found)


def whole_sha256(file: Path) -> str:
    """SHA-256 of the file's whole content."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(SAMPLE_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sampled_sha256(file: Path, sample: int | None = None) -> str | None:
    """SHA-256 of a large file's samples of so many bytes (null: 1 MiB); None for a smaller file."""
    sample = sample or SAMPLE_BYTES
    size = file.stat().st_size
    if size <= WHOLE_FILE_BYTES:
        return None
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for number in range(SAMPLES):
            stream.seek((size - sample) * number // (SAMPLES - 1))
            digest.update(stream.read(sample))
    return digest.hexdigest()


def git_blob_id(file: Path) -> str:
    """Who the file is to git, and so to a hub that keeps it in git and not in LFS."""
    digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(SAMPLE_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    """The file, or those below the directory; hidden ones are a hub's or a file system's own."""
    if path.is_file():
        yield path
        return
    for file in path.rglob("*"):
        parts = file.relative_to(path).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if not hidden and file.is_file():
            yield file


def _only_listed(files: list[Path]) -> bool:
    return sum(file.stat().st_size for file in files) > WHOLE_DIRECTORY_BYTES


def _is_large(file: Path) -> bool:
    return file.stat().st_size > WHOLE_FILE_BYTES


def _states(files: Iterable[tuple[Path, Path]]) -> str:
    states = [(str(file.relative_to(root)), *_state(file)) for root, file in sorted(files)]
    return hashlib.sha256(repr(states).encode()).hexdigest() if states else ""


def _state(file: Path) -> tuple[int, ...]:
    """What differs after any change of the content; the time of the last change cannot be set."""
    stat = file.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _content(file: Path, sample: int) -> bytes:
    if file.stat().st_size <= SAMPLE_BYTES:
        return bytes.fromhex(whole_sha256(file))
    return _read_once(file, sample, *_state(file))


@cache
def _read_once(file: Path, sample: int, *state: int) -> bytes:
    """The points of a sweep share their weights: only a file that has changed is read again."""
    return bytes.fromhex(sampled_sha256(file, sample) or whole_sha256(file))
