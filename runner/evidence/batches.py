"""Reads some columns of samples.parquet in batches, so that only one batch is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runner.evidence.samples import BUFFER, cannot_read

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Samples read at a time: a file is one row group, however large.
BATCH = 128


@contextmanager
def opened(file: Path) -> Iterator[pq.ParquetFile]:
    """Open the file; give the memory of its batches back at the end.

    Raises:
        UserError: if it is not a Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False) as stored:
            yield stored
    except pa.ArrowInvalid as error:
        raise cannot_read(file, error) from error
    finally:
        pa.default_memory_pool().release_unused()


def batches(stored: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Return the batches of an open file, with those of the columns that it has."""
    names = set(stored.schema_arrow.names)
    known = [name for name in columns if name in names]
    yield from stored.iter_batches(batch_size=BATCH, columns=known, use_threads=False)
