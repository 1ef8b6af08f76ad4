"""Who files are, by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

# Above this a file is sampled: 16 GB would take longer to hash than to load.
WHOLE_FILE_BYTES = 256 << 20
SAMPLES, SAMPLE_BYTES = 64, 1 << 20
WHOLE_DIRECTORY_BYTES = 2 << 30


def digest_files(root: Path, files: Iterable[Path]) -> str:
    """SHA-256 over names (relative to root) and contents.

    A file over 256 MiB goes in as its size and 64 samples of 1 MiB spread evenly: retrained or
    requantized weights differ everywhere, a single flipped byte may go unseen.
    """
    total = hashlib.sha256()
    for file in sorted(set(files)):
        total.update(f"{file.relative_to(root)}\0{file.stat().st_size}\0".encode())
        total.update(_content(file))
    return total.hexdigest()


def last_changes(root: Path) -> str:
    """SHA-256 over when each file that is only sampled was changed; empty where none is sampled.

    A byte that was changed in place, which samples may not see, is seen here.
    """
    large = [file for file in root.rglob("*") if _is_content(file)]
    stats = [(str(file.relative_to(root)), file.stat()) for file in sorted(large)]
    times = [(name, stat.st_mtime_ns) for name, stat in stats if stat.st_size > WHOLE_FILE_BYTES]
    return hashlib.sha256(repr(times).encode()).hexdigest() if times else ""


def digest_directories(*directories: str | None) -> str:
    """SHA-256 over every file below the directories; the empty string where there are none.

    A directory of more than 2 GiB, which may hold every data set of a team, goes in by its files'
    names and sizes: what of it was asked shows in the prompts' own digest after the run.
    """
    roots = [Path(name).expanduser() for name in directories if name is not None]
    digests = [_digest_directory(root) for root in roots]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest() if digests else ""


def _digest_directory(root: Path) -> str:
    files = [file for file in root.rglob("*") if _is_content(file)]
    if sum(file.stat().st_size for file in files) <= WHOLE_DIRECTORY_BYTES:
        return digest_files(root, files)
    listing = sorted((str(file.relative_to(root)), file.stat().st_size) for file in files)
    return hashlib.sha256(repr(listing).encode()).hexdigest()


def _is_content(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts


def whole_sha256(file: Path) -> str:
    """SHA-256 of the file's whole content."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(SAMPLE_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sampled_sha256(file: Path) -> str | None:
    """SHA-256 of a large file's samples; None where the file is small enough to be read whole."""
    size = file.stat().st_size
    if size <= WHOLE_FILE_BYTES:
        return None
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for number in range(SAMPLES):
            stream.seek((size - SAMPLE_BYTES) * number // (SAMPLES - 1))
            digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()


def git_blob_id(file: Path) -> str:
    """Who the file is to git, and so to a hub that keeps it in git and not in LFS."""
    digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(SAMPLE_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _content(file: Path) -> bytes:
    found = file.stat()
    if found.st_size <= SAMPLE_BYTES:
        return bytes.fromhex(whole_sha256(file))
    return _read_once(file, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@cache
def _read_once(file: Path, *state: int) -> bytes:
    """The points of a sweep share their weights: only a file that has changed is read again."""
    return bytes.fromhex(sampled_sha256(file) or whole_sha256(file))
