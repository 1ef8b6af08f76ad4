"""samples.parquet is read as it was written, and so are older and broken files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.errors import UserError
from runner.evidence.samples import read_samples
from runner.lm.sample_table import SampleRow, sample_table, write_samples

ROW = SampleRow(
    task="mini_colour",
    doc_id=3,
    filter="none",
    doc_hash="d",
    prompt_hash="p",
    image_hashes=["i", "j"],
    image_sizes=["64x48", "28x28"],
    prompt="What colour is the shape?",
    target="B",
    responses=["B"],
    filtered="B",
    scores={"acc": 1.0, "f1": 0.25},
    truncated=True,
    prompt_tokens=[41],
    token_ids=[7, 8, 9],
    logprobs=[-0.5, -0.25, 0.0],
    margins=[1.0, 2.0, float("inf")],
    finish_reasons=["stop"],
    choice_logprobs=[-12.345678901, -0.5],
    choice_tokens=[7, 1],
    seconds=[0.25],
)


def test_what_the_worker_wrote_is_read_back_whole(tmp_path: Path) -> None:
    file = tmp_path / "samples.parquet"
    empty = SampleRow(**{**vars(ROW), "doc_id": 4, "token_ids": [], "logprobs": [], "margins": []})
    write_samples(file, [sample_table([ROW]), sample_table([empty])])
    first, second = read_samples(file)
    assert list(first.token_ids) == ROW.token_ids
    assert list(first.logprobs) == ROW.logprobs
    assert list(first.margins) == ROW.margins
    assert first.scores == ROW.scores
    assert first.truncated is True
    assert (first.task, first.doc_id, first.prompt, first.target) == (
        "mini_colour",
        3,
        "What colour is the shape?",
        "B",
    )
    assert first.image_hashes == ("i", "j") and first.image_sizes == ("64x48", "28x28")
    assert first.choice_logprobs == (-12.345678901, -0.5) and first.choice_tokens == (7, 1)
    assert first.responses == ("B",) and first.finish_reasons == ("stop",)
    assert first.seconds == (0.25,)
    assert list(second.token_ids) == []
    assert read_samples(file)[0] == first


def test_columns_that_an_older_file_lacks_have_their_defaults(tmp_path: Path) -> None:
    file = tmp_path / "samples.parquet"
    pq.write_table(pa.table({"task": ["mini"], "doc_id": [1], "of_the_future": [True]}), file)
    (sample,) = read_samples(file)
    assert (sample.filter, sample.choice_logprobs, sample.scores) == ("none", (), {})
    assert sample.choice_tokens == ()
    assert list(sample.logprobs) == [] and sample.seconds == ()


def test_a_file_of_many_row_groups_is_read_in_order(tmp_path: Path) -> None:
    file = tmp_path / "samples.parquet"
    table = pa.table(
        {
            "task": ["mini"] * 5,
            "doc_id": list(range(5)),
            "logprobs": [[-float(n)] * n for n in range(5)],
        }
    )
    pq.write_table(table, file, row_group_size=2)
    assert [(each.doc_id, list(each.logprobs)) for each in read_samples(file)] == [
        (n, [-float(n)] * n) for n in range(5)
    ]


def test_a_missing_a_broken_and_a_strange_file_are_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not there"):
        read_samples(tmp_path / "samples.parquet")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"no parquet")
    with pytest.raises(UserError, match="cannot be read"):
        read_samples(broken)
    strange = tmp_path / "strange.parquet"
    pq.write_table(pa.table({"colour": ["red"]}), strange)
    with pytest.raises(UserError, match="no column doc_id, task"):
        read_samples(strange)
