"""Writes the likeliest tokens of each step of a run's answers to a Parquet file of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runner.lm.top import steps_of
from runner.rundir import write_atomic

if TYPE_CHECKING:
    from runner.lm.sample_table import SampleRow

SCHEMA = pa.schema(
    [
        ("evaluation", pa.string()),
        ("task", pa.string()),
        ("doc_id", pa.int64()),
        ("repeat", pa.int32()),
        ("top_ids", pa.list_(pa.int32())),
        ("top_logprobs", pa.list_(pa.float32())),
    ]
)


def likeliest_table(rows: Iterable[SampleRow]) -> pa.Table:
    """A row for each recorded sample, whatever its filters."""
    samples = {(row.evaluation, *row.sample, row.repeat): row.likeliest for row in rows}
    known = {key: steps_of(texts) for key, texts in samples.items() if any(texts)}
    keys = [list(column) for column in zip(*known, strict=True)] or [[]] * 4
    lists = [_lists([each[name].ravel() for each in known.values()]) for name in _PARTS]
    return pa.table([*keys, *lists], schema=SCHEMA)


_PARTS = ("token", "logprob")


def _lists(rows: Sequence[np.ndarray]) -> pa.ListArray:
    """A list column. Lists of Python numbers would take gigabytes."""
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    values = np.concatenate(rows) if rows else np.empty(0)
    return pa.ListArray.from_arrays(offsets, values)


def write_likeliest(file: Path, tables: Sequence[pa.Table]) -> None:
    """Write the tables to the file, replacing it atomically; no file if nothing was recorded."""
    table = pa.concat_tables([SCHEMA.empty_table(), *tables])
    if table.num_rows:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        write_atomic(file, sink.getvalue().to_pybytes())
