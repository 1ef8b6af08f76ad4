"""Images of questions as data URIs."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Keeps the page small enough to send; further images are named instead of shown.
MOST_BYTES = 8_000_000
# Bytes read at a time. The file is one row group: without a buffer, all of it is read.
BUFFER = 1 << 20
_START = "data:image/jpeg;base64,"


@dataclass(frozen=True)
class Picture:
    """One image: its own size, and a small copy as data URI (empty where there is none)."""

    width: int
    height: int
    address: str


def pictures(files: Iterable[Path], wanted: Sequence[str]) -> dict[str, Picture]:
    """Read images by hash from the runs' images.parquet; old runs have no such file.

    `wanted` lists an image as often as the page shows it, because each use takes space.
    """
    times = Counter(wanted)
    found: dict[str, Picture] = {}
    room = MOST_BYTES
    for file in files:
        missing = [each for each in times if each not in found]
        if not missing or not file.is_file():
            continue
        rows = _rows(file, set(missing))
        for digest in missing:
            if (row := rows.get(digest)) is not None:
                address = _address(row["thumbnail"], room // times[digest])
                room -= len(address) * times[digest]
                found[digest] = Picture(row["width"], row["height"], address)
    return found


def album(files: Iterable[Path], wanted: Iterable[str], most: int | None) -> dict[str, Picture]:
    """Read images by hash, each once, until their addresses have `most` characters (None: all).

    The others have no address. Unlike `pictures`, it never holds images that don't fit.
    """
    waiting = list(dict.fromkeys(wanted))
    found: dict[str, Picture] = {}
    room = most
    for file in files:
        missing = [digest for digest in waiting if digest not in found]
        if not missing or not file.is_file():
            continue
        sizes = _sizes(file, set(missing))
        fitting = []
        for digest in missing:
            if digest not in sizes:
                continue
            width, height, length = sizes[digest]
            found[digest] = Picture(width, height, "")
            if room is None or length <= room:
                fitting.append(digest)
                room = None if room is None else room - length
        for digest, row in _rows(file, set(fitting)).items():
            address = _address(row["thumbnail"], sizes[digest][2])
            found[digest] = Picture(row["width"], row["height"], address)
    return {digest: found[digest] for digest in waiting if digest in found}


def _sizes(file: Path, wanted: Collection[str]) -> dict[str, tuple[int, int, int]]:
    """Width, height and number of characters of each image's address."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found = {}
    with pq.ParquetFile(file, buffer_size=BUFFER) as stored:
        for batch in stored.iter_batches(batch_size=256):
            lengths = pc.binary_length(batch["thumbnail"]).to_pylist()
            columns = (batch[name].to_pylist() for name in ("hash", "width", "height"))
            for digest, width, height, length in zip(*columns, lengths, strict=True):
                if digest in wanted:
                    found[digest] = (width, height, len(_START) + 4 * ((length + 2) // 3))
    return found


def _rows(file: Path, wanted: Collection[str]) -> dict[str, dict[str, Any]]:
    """By hash; batch by batch, for a run may have shown tens of thousands of images."""
    import pyarrow.parquet as pq

    found: dict[str, dict[str, Any]] = {}
    # read_table with a filter would do, and load pandas for it: most of a second.
    with pq.ParquetFile(file, buffer_size=BUFFER) as stored:
        for batch in stored.iter_batches(batch_size=256):
            for place, digest in enumerate(batch["hash"].to_pylist()):
                if digest in wanted:
                    (found[digest],) = batch.slice(place, 1).to_pylist()
    return found


def _address(thumbnail: bytes, room: int) -> str:
    if not thumbnail:
        return ""
    text = f"{_START}{base64.b64encode(thumbnail).decode()}"
    return text if len(text) <= room else ""
