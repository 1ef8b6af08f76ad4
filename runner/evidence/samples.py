"""Reads samples.parquet into plain values."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from runner.errors import UserError
from runner.language import gettext
from runner.outcome import TaskOutcome

if TYPE_CHECKING:
    import pyarrow as pa

# Columns with a value per token. They are views of the Parquet column: a Python object per token
# would take gigabytes for 15,000 reasoning answers.
TOKEN_LISTS = ("token_ids", "logprobs", "margins", "top_ids", "top_logprobs")
# Samples read at a time, and bytes of the file.
BATCH, BUFFER = 1024, 1 << 20
# Arrow's types as type codes of Python's struct module.
MEMORY: dict[str, Any] = {"int32": "i", "int64": "q", "float": "f", "double": "d"}


@dataclass(frozen=True)
class Stored:
    """The row of samples.parquet that an outline was read from (runner/evidence/stored.py).

    `version` identifies the file's content: its inode, size and time of change. `size` is about the
    number of bytes of all its texts, and `characters` the length of its answers with their
    reasoning.
    """

    file: Path
    version: tuple[int, int, int]
    row: int
    size: int
    characters: int


@dataclass(frozen=True)
class Sample:
    """One sample under one filter, as runner/lm/sample_table.py writes it and describes it.

    `logprobs` are natural logarithms of the chosen tokens' probabilities and `margins` their lead
    over the next best token; both are as long as `token_ids`. `choice_logprobs` are the
    log-likelihoods of the scored choices in the order asked, and `choice_tokens` the numbers of
    tokens they are sums over. `guessed` says that lm-eval found no
    answer and drew one at random. `cluster` is the value of the document's field that
    `verdict.cluster` named. `seconds` is the time that the engine took for each request.
    `degenerate` has the kind of each degenerate answer (runner/outcome.py). `evaluation` is the
    name in task.names for which the sample was asked. `top_ids` and `top_logprobs` are the
    likeliest tokens of each step of a replay, as many for each of `token_ids`. Columns that an
    older file lacks have their defaults.
    """

    task: str
    doc_id: int
    filter: str = "none"
    doc_hash: str = ""
    prompt_hash: str = ""
    image_hashes: tuple[str, ...] = ()
    image_sizes: tuple[str, ...] = ()
    prompt: str = ""
    target: str = ""
    responses: tuple[str, ...] = ()
    filtered: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    truncated: bool = False
    prompt_tokens: tuple[int, ...] = ()
    token_ids: Sequence[int] = ()
    logprobs: Sequence[float] = ()
    margins: Sequence[float] = ()
    finish_reasons: tuple[str, ...] = ()
    choice_logprobs: tuple[float, ...] = ()
    choice_tokens: tuple[int, ...] = ()
    guessed: bool = False
    cluster: str = ""
    seconds: tuple[float, ...] = ()
    degenerate: tuple[str, ...] = ()
    repeat: int = 0
    evaluation: str = ""
    seeds: tuple[int, ...] = ()
    answer_tokens: tuple[int, ...] = ()
    reasoning: tuple[str, ...] = ()
    cut_thinking: int = 0
    thought_only: int = 0
    top_ids: Sequence[int] = ()
    top_logprobs: Sequence[float] = ()
    # All answers to a question that stand merged in this sample (runner/evidence/questions.py).
    rows: tuple[Sample, ...] = ()
    # Where the texts and tokens are, if they were left in the file.
    stored: Stored | None = None


class Choices(Protocol):
    """The scored choices of a sample, or of what a page shows of it."""

    @property
    def choice_logprobs(self) -> Sequence[float]: ...

    @property
    def finish_reasons(self) -> Sequence[str]: ...


def asked_for(task: TaskOutcome, samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples of a task or, for a group, of its subtasks.

    Those of a subtask that another group has as well belong to the name they were asked for.
    """
    leaves = {task.task, *(result.task for result in task.metrics)}
    return [each for each in samples if each.task in leaves and each.evaluation in ("", task.task)]


def answer(responses: Sequence[str], choice_logprobs: Sequence[float]) -> tuple[str, ...] | int:
    """The answer: the generated texts, or the index of the likeliest scored choice."""
    if choice_logprobs:
        return max(range(len(choice_logprobs)), key=choice_logprobs.__getitem__)
    return tuple(responses)


def stopped(sample: Sample) -> bool:
    """Return whether an answer ended at the token limit.

    Scored choices never do, although engines report that: they are scored with a limit of one
    token.
    """
    return not sample.choice_logprobs and "length" in sample.finish_reasons


def top_choice(sample: Choices) -> str:
    """Return the likeliest scored choice: `choice 2`, or `choice unknown`."""
    if not numbered(sample):
        return gettext("choice unknown")
    return gettext("choice {number}", number=answer((), sample.choice_logprobs))


def numbered(sample: Choices) -> bool:
    """Return whether places in `choice_logprobs` are the numbers of the choices.

    A choice that was too long to be scored is missing there.
    """
    return len(sample.finish_reasons) <= len(sample.choice_logprobs)


def read_samples(file: Path, first: int | None = None) -> list[Sample]:
    """All samples, or the first ones, in the file's order.

    Columns that this version does not know are ignored.

    Raises:
        UserError: if the file is missing, or is not a Parquet file of samples.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = Sample.__dataclass_fields__
    found: list[Sample] = []
    try:
        # read_table would also load pandas and the data set module, which takes most of a
        # second. A file is one row group: read whole, its texts would be in memory twice.
        with pq.ParquetFile(file, buffer_size=BUFFER) as stored:
            known = [name for name in stored.schema_arrow.names if name in names]
            require_samples(file, known)
            for batch in stored.iter_batches(batch_size=BATCH, columns=known):
                found += (Sample(**row) for row in values_of(batch))
                if first is not None and len(found) >= first:
                    return found[:first]
    except FileNotFoundError:
        raise UserError(f"{file}: not there; the run has kept no samples") from None
    except pa.ArrowInvalid as error:
        raise cannot_read(file, error) from error
    return found


def require_samples(file: Path, columns: Collection[str]) -> None:
    """Raise the user's error for a Parquet file of something else."""
    if missing := {"task", "doc_id"} - set(columns):
        wanted = ", ".join(sorted(missing))
        raise UserError(f"{file}: holds no samples (no column {wanted})")


def values_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Return the values of each row by the names of its columns, as `Sample` has them."""
    names = batch.schema.names
    columns = [_values(name, batch[name]) for name in names]
    # A file without any of the columns has rows all the same.
    for row in zip(*columns, strict=True) if columns else [()] * batch.num_rows:
        yield {name: value for name, value in zip(names, row, strict=True) if value is not None}


def _values(name: str, column: pa.Array) -> list[Any]:
    import pyarrow as pa

    if name in TOKEN_LISTS:
        return list_views(column)
    values: list[Any] = column.to_pylist()
    if not pa.types.is_nested(column.type):
        return values
    return [None if value is None else plain(name, value) for value in values]


def cannot_read(file: Path, error: Exception) -> UserError:
    """The user's error for a file that is not Parquet."""
    return UserError(f"{file}: cannot be read ({str(error).splitlines()[0]})")


def plain(name: str, value: Any) -> Any:
    """A value of a column as `Sample` has it."""
    if name == "scores":
        return dict(value)
    return tuple(value) if isinstance(value, list) else value


def list_views(column: pa.ListArray) -> list[Any]:
    """A list column's rows as views of its values; memoryviews compare and index like lists.

    Arrow's own conversion to NumPy would load pandas, which takes most of a second.
    """
    stored, code = column.values, MEMORY[str(column.values.type)]
    size = struct.calcsize(code)
    start, end = stored.offset * size, (stored.offset + len(stored)) * size
    values = memoryview(stored.buffers()[1] or b"")[start:end].cast(code)
    return [values[start:end] for start, end in itertools.pairwise(column.offsets.to_pylist())]
