"""Samples whose texts and tokens stay in samples.parquet, and are read a few rows at a time.

Two runs of twenty thousand reasoning answers have gigabytes of them. A comparison needs them only
question by question.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from copy import copy
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import UserError
from runner.evidence.batches import batches, opened
from runner.evidence.outlines import TEXTS, brief
from runner.evidence.samples import TOKEN_LISTS, Sample, Stored, require_samples, values_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Columns that are read as they are.
KEPT = (
    "task",
    "doc_id",
    "filter",
    "doc_hash",
    "prompt_hash",
    "image_hashes",
    "scores",
    "truncated",
    "prompt_tokens",
    "finish_reasons",
    "choice_logprobs",
    "choice_tokens",
    "guessed",
    "cluster",
    "degenerate",
    "repeat",
    "evaluation",
    "seeds",
    "answer_tokens",
    "cut_thinking",
)
# Texts that outlines have as digests.
DIGESTED = ("responses", "reasoning")
# Bytes of the rows in memory at a time, if they are wanted in the order of the files, or if not:
# then a file is read from its beginning for each chunk.
CHUNK, MIXED = 1 << 25, 1 << 27
# Bytes of a token in a column.
TOKEN = 4


def read_stored(file: Path) -> list[Sample]:
    """Outlines of all samples in the file's order, for `completed`.

    Each text of `responses` and `reasoning` is replaced by a digest: equal texts have equal ones.
    `prompt` and `target` are empty, `filtered` is stripped and cut, `token_ids` is a range of the
    right length, and other values of tokens are missing. A file that doesn't exist has no samples.

    Raises:
        UserError: if the file is not a Parquet file of samples.
    """
    found: list[Sample] = []
    if not file.exists():
        return found
    version = _version(file)
    with opened(file) as stored:
        require_samples(file, stored.schema_arrow.names)
        for batch in batches(stored, [*KEPT, *TEXTS, "token_ids"]):
            found += _outlines(file, version, len(found), batch)
    return found


def completed(
    groups: Iterable[Sequence[Sample]], columns: Sequence[str]
) -> Iterator[tuple[Sample, ...]]:
    """Return the groups of outlines in their order, with these columns as they are in the files.

    A file is read once if the groups are in the order of its rows. Else it is read again for each
    chunk of groups whose rows lie before those of the last one.

    Raises:
        UserError: if a file was replaced since its outlines were read, as a retried run does.
    """
    with ExitStack() as files:
        readers: dict[Path, _Rows] = {}
        for chunk in _chunks(groups, columns):
            rows = map(_stored, chain.from_iterable(chunk))
            for file, version in {(each.file, each.version) for each in rows}:
                if file not in readers:
                    readers[file] = _Rows(files.enter_context(opened(file)), columns)
                    if _version(file) != version:
                        raise UserError(f"{file}: changed while it was read; try again")
            yield from _completed(chunk, readers)


def row(outline: Sample) -> int:
    """Return the row of the file that an outline was read from."""
    return _stored(outline).row


def _completed(
    chunk: Sequence[Sequence[Sample]], readers: dict[Path, _Rows]
) -> Iterator[tuple[Sample, ...]]:
    wanted: dict[Path, set[int]] = {}
    for each in chain.from_iterable(chunk):
        stored = _stored(each)
        wanted.setdefault(stored.file, set()).add(stored.row)
    found = {file: readers[file].at(rows) for file, rows in wanted.items()}
    for group in chunk:
        yield tuple(_whole(each, found) for each in group)


def _whole(outline: Sample, found: dict[Path, dict[int, dict[str, Any]]]) -> Sample:
    stored = _stored(outline)
    whole = copy(outline)
    vars(whole).update(found[stored.file][stored.row])  # `replace` takes four times as long
    return whole


def _chunks(
    groups: Iterable[Sequence[Sample]], columns: Sequence[str]
) -> Iterator[list[Sequence[Sample]]]:
    """The groups in chunks whose columns take about CHUNK bytes, or MIXED."""
    lists = sum(name in TOKEN_LISTS for name in columns)
    texts = lists < len(columns)
    chunk: list[Sequence[Sample]] = []
    size, forwards = 0, True
    last: dict[Path, int] = {}
    for group in groups:
        chunk.append(group)
        for each in group:
            stored = _stored(each)
            size += TOKEN * lists * len(each.token_ids) + texts * stored.size
            forwards = forwards and stored.row >= last.get(stored.file, 0)
            last[stored.file] = stored.row
        if size >= (CHUNK if forwards else MIXED):
            yield chunk
            chunk, size, forwards = [], 0, True
    if chunk:
        yield chunk


class _Rows:
    """Rows of an open file, read forwards, and from its beginning again where that is needed."""

    def __init__(self, stored: pq.ParquetFile, columns: Sequence[str]) -> None:
        self._stored = stored
        self._columns = columns
        self._begin()

    def _begin(self) -> None:
        self._batches = batches(self._stored, self._columns)
        self._start = self._end = 0

    def at(self, rows: Collection[int]) -> dict[int, dict[str, Any]]:
        """The values of these rows, by the numbers of the rows."""
        found: dict[int, dict[str, Any]] = {}
        wanted = sorted(rows)
        if wanted and wanted[0] < self._start:
            self._begin()
        while wanted:
            while wanted[0] >= self._end:
                self._batch = next(self._batches)
                self._start, self._end = self._end, self._end + self._batch.num_rows
            count = bisect_left(wanted, self._end)
            found.update(zip(wanted[:count], self._chosen(wanted[:count]), strict=True))
            del wanted[:count]
        return found

    def _chosen(self, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
        if len(rows) == self._batch.num_rows:
            return values_of(self._batch)
        # Copied: a view of one row would keep the whole batch in memory.
        return values_of(self._batch.take([row - self._start for row in rows]))


def _version(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _outlines(
    file: Path, version: tuple[int, int, int], start: int, batch: pa.RecordBatch
) -> Iterator[Sample]:
    import pyarrow.compute as pc

    names = batch.schema.names
    light = batch.select([name for name in names if name in (*KEPT, *DIGESTED, "filtered")])
    sizes = [0] * batch.num_rows
    for name in {"prompt", "target", "filtered"} & set(names):
        lengths = pc.binary_length(batch[name]).to_pylist()
        sizes = [size + (length or 0) for size, length in zip(sizes, lengths, strict=True)]
    tokens = [0] * batch.num_rows
    if "token_ids" in names:
        tokens = [count or 0 for count in pc.list_value_length(batch["token_ids"]).to_pylist()]
    for place, (own, size, count) in enumerate(zip(values_of(light), sizes, tokens, strict=True)):
        characters = sum(len(text) for name in DIGESTED for text in own.get(name, ()))
        own |= {name: tuple(map(_digest, own[name])) for name in DIGESTED if name in own}
        own["filtered"] = brief(own.get("filtered"))
        stored = Stored(file, version, start + place, size + characters, characters)
        yield Sample(**own, token_ids=range(count), stored=stored)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _stored(outline: Sample) -> Stored:
    assert outline.stored is not None
    return outline.stored
