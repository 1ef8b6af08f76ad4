"""Adds to samples the likeliest tokens that an ordinary run recorded in likeliest.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.errors import UserError
from runner.evidence.samples import Sample, list_views

COLUMNS = ("top_ids", "top_logprobs")
# Number of tokens that are listed for each step.
CANDIDATES = 20
# Largest difference, in nats, of a token's log-probability in the two files, which hold the same
# numbers.
SAME = 1e-4


def with_likeliest(samples: Sequence[Sample], file: Path) -> list[Sample]:
    """The samples, with the likeliest tokens of those that the file has.

    Raises:
        UserError: if the file can't be read, or is of other answers.
    """
    if not file.is_file():
        return list(samples)
    recorded = _read(file)
    found = []
    for sample in samples:
        own = recorded.get((sample.evaluation, sample.task, sample.doc_id, sample.repeat))
        if own is None:
            found.append(sample)
            continue
        whole = replace(sample, **dict(zip(COLUMNS, own, strict=True)))
        found.append(whole if _is_listed(whole) else sample)
        if not _is_of(whole):
            raise UserError(
                f"{file}: is not of the answers in samples.parquet (document {sample.doc_id} of "
                f"{sample.task}); choose another reference run, or remove the file"
            )
    return found


def _read(file: Path) -> dict[tuple[str, str, int, int], tuple[Any, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("evaluation", "task", "doc_id", "repeat")
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as stored:
            table = stored.read(columns=[*names, *COLUMNS])
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from error
    if missing := {*names, *COLUMNS} - set(table.column_names):
        raise UserError(f"{file}: has no column {', '.join(sorted(missing))}")
    keys = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    columns = (
        [view for chunk in table.column(name).chunks for view in list_views(chunk)]
        for name in COLUMNS
    )
    lists = zip(*columns, strict=True)
    return dict(zip(keys, lists, strict=True))


def _is_listed(sample: Sample) -> bool:
    """Whether each token has a list, of several tokens: one alone can't move relative to others."""
    import numpy as np

    tokens = len(sample.token_ids)
    if not tokens or len(sample.top_ids) != tokens * CANDIDATES:
        return False
    ids = np.asarray(sample.top_ids).reshape(tokens, CANDIDATES)
    return bool(((ids >= 0).sum(axis=1) > 1).all())


def _is_of(sample: Sample) -> bool:
    """Whether the lists can be of the answer's tokens.

    Each token has the sample's log-probability in its list, or one that is too small for the list.
    No number is NaN, unless the sample's is as well.
    """
    import numpy as np

    if not _is_listed(sample) or len(sample.logprobs) != len(sample.token_ids):
        return True
    ids, listed = (
        np.asarray(each).reshape(-1, CANDIDATES) for each in (sample.top_ids, sample.top_logprobs)
    )
    tokens, known = (np.asarray(each) for each in (sample.token_ids, sample.logprobs))
    there, finite = ids >= 0, np.isfinite(known)
    if np.isnan(listed[there & finite[:, None]]).any():
        return False
    own = (ids == tokens[:, None]) & there
    with np.errstate(invalid="ignore"):
        same = np.abs(np.where(own, listed - known[:, None], 0.0)).max(axis=1) <= SAME
        beneath = known <= np.where(there, listed, np.inf).min(axis=1) + SAME
    return bool(np.where(own.any(axis=1), same, beneath)[finite].all())
