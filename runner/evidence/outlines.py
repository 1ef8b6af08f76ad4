"""Reads samples.parquet in batches: outlines of all samples, and the texts one after another.

Twenty thousand reasoning answers, read whole, take gigabytes: a report needs neither all texts at
once nor a value per token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from runner.evidence.batches import batches, opened
from runner.evidence.samples import Sample, plain

if TYPE_CHECKING:
    import pyarrow as pa

# Parsed answers and targets are cut to this length: some tasks have no filter, and the whole
# response counts as parsed.
BRIEF = 200
TEXTS = ("prompt", "responses", "reasoning", "target", "filtered")
# Columns of an outline that are read as they are.
KEPT = (
    "task",
    "doc_id",
    "filter",
    "scores",
    "truncated",
    "prompt_tokens",
    "finish_reasons",
    "choice_logprobs",
    "guessed",
    "seconds",
    "degenerate",
    "repeat",
    "evaluation",
    "image_hashes",
    "image_sizes",
    "cut_thinking",
)


@dataclass(frozen=True)
class Texts:
    """The texts of one sample under one filter, whole."""

    prompt: str = ""
    responses: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    target: str = ""
    filtered: str = ""


def read_outlines(file: Path) -> list[Sample]:
    """All samples in the file's order, without texts and without a value per token.

    `token_ids` is a range of the right length, `logprobs` has only their mean, and `target` and
    `filtered` are stripped and cut. A file that doesn't exist has no samples.

    Raises:
        UserError: if the file is not a Parquet file of samples.
    """
    found: list[Sample] = []
    if not file.exists():
        return found
    with opened(file) as stored:
        names = set(stored.schema_arrow.names)
        # The lengths of the answers spare the tokens themselves, except in older files.
        counts = "answer_tokens" if "answer_tokens" in names else "token_ids"
        for batch in batches(stored, [*KEPT, "target", "filtered", "logprobs", counts]):
            found += _outlines(batch, counts)
    return found


def read_texts(file: Path) -> Iterator[Texts]:
    """The texts of all samples, in the file's order."""
    with opened(file) as stored:
        for batch in batches(stored, TEXTS):
            for row in batch.to_pylist():
                yield Texts(**{name: plain(name, value) for name, value in row.items() if value})


def with_texts(
    file: Path, outlines: Sequence[Sample], places: Sequence[int]
) -> Iterator[tuple[int, Sample]]:
    """The outlines at ascending places, with their texts."""
    wanted = set(places)
    if not wanted:
        return
    for place, texts in enumerate(islice(read_texts(file), places[-1] + 1)):
        if place in wanted:
            yield (
                place,
                replace(
                    outlines[place],
                    prompt=texts.prompt,
                    responses=texts.responses,
                    reasoning=texts.reasoning,
                    target=texts.target,
                ),
            )


def _outlines(batch: pa.RecordBatch, counts: str) -> Iterator[Sample]:
    names = batch.schema.names
    tokens = _tokens(batch[counts], counts) if counts in names else [0] * batch.num_rows
    means = _means(batch["logprobs"]) if "logprobs" in names else [()] * batch.num_rows
    light = batch.select([name for name in names if name not in ("logprobs", counts)])
    for row, count, mean in zip(light.to_pylist(), tokens, means, strict=True):
        for name in ("target", "filtered"):
            row[name] = brief(row.get(name))
        known = {name: plain(name, value) for name, value in row.items() if value is not None}
        yield Sample(**known, token_ids=range(count), logprobs=mean)


def brief(text: str | None) -> str:
    """The beginning of a text, as outlines have it."""
    return (text or "").strip()[:BRIEF]


def _tokens(column: pa.ListArray, counts: str) -> list[int]:
    import pyarrow.compute as pc

    if counts == "answer_tokens":
        return [sum(lengths or ()) for lengths in column.to_pylist()]
    return [length or 0 for length in pc.list_value_length(column).to_pylist()]


def _means(column: pa.ListArray) -> list[tuple[float, ...]]:
    """The mean of each row's values; nothing for a row without values."""
    import numpy as np

    starts = column.offsets.to_pylist()
    # Arrow's own conversion would import pandas, which takes longer than to read the samples.
    values = np.from_dlpack(column.values.cast("float64"))
    return [
        (float(values[start:end].mean()),) if end > start else () for start, end in pairwise(starts)
    ]
