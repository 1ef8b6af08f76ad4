"""Samples whose texts and tokens are read a few rows at a time are those that are read whole."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.errors import UserError
from runner.evidence import batches, stored
from runner.evidence.outlines import TEXTS
from runner.evidence.samples import TOKEN_LISTS, Sample, read_samples
from runner.evidence.stored import KEPT, completed, read_stored
from runner.lm.sample_table import SampleRow, sample_table, write_samples
from tests.compared import row

PROJECT = Path(__file__).parents[2]
COLUMNS = (*TEXTS, *TOKEN_LISTS)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", 16)
    monkeypatch.setattr(stored, "CHUNK", 4000)
    monkeypatch.setattr(stored, "MIXED", 12_000)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("first", "second"):
        rows = [_long(n, name) for n in range(100)]
        write_samples(tmp_path / name, [sample_table(rows)])
    return tmp_path / "first", tmp_path / "second"


def _long(place: int, name: str) -> SampleRow:
    rng = random.Random(f"{place} {name}")
    tokens = [rng.randrange(1000) for _ in range(rng.randrange(30))]
    return row(
        place,
        responses=[name * rng.randrange(40)],
        reasoning=[f"thought {place}"] * (place % 3),
        filtered=f" {'é' * rng.randrange(300)} ",
        token_ids=tokens,
        logprobs=[-rng.random() for _ in tokens],
        margins=[rng.random() for _ in tokens],
    )


def same(one: Sample, whole: Sample) -> bool:
    lists = all(list(getattr(one, name)) == list(getattr(whole, name)) for name in TOKEN_LISTS)
    return lists and all(getattr(one, name) == getattr(whole, name) for name in (*KEPT, *TEXTS))


def test_outlines_are_read_without_pandas(files: tuple[Path, Path]) -> None:
    """Its import would take longer than the samples of most runs."""
    code = "import sys, pathlib; from runner.evidence.outlines import read_outlines as read; "
    code += f"print(len(read(pathlib.Path({str(files[0])!r}))), 'pandas' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert ran.stdout.split() == ["100", "False"]


def test_an_outline_tells_equal_answers_from_others(files: tuple[Path, Path]) -> None:
    outlines, whole = read_stored(files[0]), read_samples(files[0])
    others, their = read_stored(files[1]), read_samples(files[1])
    for one, other, first, second in zip(outlines, others, whole, their, strict=True):
        for name in KEPT:
            assert getattr(one, name) == getattr(first, name)
        assert (one.responses == other.responses) is (first.responses == second.responses)
        assert one.reasoning == other.reasoning and len(one.reasoning) == len(first.reasoning)
        assert (one.prompt, one.target) == ("", "")
        assert one.filtered == first.filtered.strip()[:200]
        assert len(one.token_ids) == len(first.token_ids)
        assert one.stored is not None
        texts = (*first.responses, *first.reasoning)
        assert one.stored.characters == sum(map(len, texts)) <= one.stored.size


@pytest.mark.parametrize("order", ["of the file", "backwards", "shuffled", "every 7th"])
def test_completed_samples_are_those_of_the_file(files: tuple[Path, Path], order: str) -> None:
    outlines, whole = [[*map(read, files)] for read in (read_stored, read_samples)]
    places = list(range(100))
    if order == "backwards":
        places.reverse()
    elif order == "shuffled":
        random.Random(3).shuffle(places)
    elif order == "every 7th":
        places = places[::7]
    groups = [(outlines[0][n], outlines[1][-n]) for n in places]
    read = list(completed(groups, COLUMNS))
    assert len(read) == len(places)
    for n, (one, other) in zip(places, read, strict=True):
        assert same(one, whole[0][n]) and same(other, whole[1][-n])


def test_groups_may_be_empty_and_have_a_row_twice(files: tuple[Path, Path]) -> None:
    outlines, whole = read_stored(files[0]), read_samples(files[0])
    groups = [(), (outlines[3],), (outlines[3], outlines[3]), ()]
    read = list(completed(groups, COLUMNS))
    assert [len(group) for group in read] == [0, 1, 2, 0]
    assert all(same(each, whole[3]) for group in read for each in group)
    assert list(completed([], COLUMNS)) == []


def test_other_columns_stay_as_the_outline_has_them(files: tuple[Path, Path]) -> None:
    outline, whole = read_stored(files[0])[1], read_samples(files[0])[1]
    ((read,),) = completed([(outline,)], ("prompt",))
    assert read.prompt == whole.prompt
    assert (read.responses, read.token_ids) == (outline.responses, outline.token_ids)


def test_a_file_in_order_is_read_once(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def counted(opened: pq.ParquetFile, columns: Sequence[str]) -> Iterator[Any]:
        started.append(columns)
        return batches.batches(opened, columns)

    outlines = [read_stored(file) for file in files]
    monkeypatch.setattr(stored, "batches", counted)
    # The second run has other questions first, and lacks some.
    list(completed(zip(outlines[0], outlines[1][20::2], strict=False), COLUMNS))
    assert len(started) == 2
    list(completed(zip(outlines[0], outlines[1][::-1], strict=True), COLUMNS))
    assert 4 < len(started) < 40


def test_columns_that_an_older_file_lacks_keep_their_defaults(tmp_path: Path) -> None:
    file = tmp_path / "samples.parquet"
    pq.write_table(pa.table({"task": ["mini"] * 3, "doc_id": [1, 2, 3]}), file)
    outlines = read_stored(file)
    assert [each.doc_id for each in outlines] == [1, 2, 3]
    for (read,), whole in zip(
        completed([(each,) for each in outlines], COLUMNS), read_samples(file), strict=True
    ):
        assert same(read, whole)


def test_no_file_has_no_samples_and_a_strange_one_is_the_users_to_mend(tmp_path: Path) -> None:
    file = tmp_path / "samples.parquet"
    assert read_stored(file) == []
    file.write_bytes(b"no parquet")
    with pytest.raises(UserError, match="cannot be read"):
        read_stored(file)
    pq.write_table(pa.table({"colour": ["red"]}), file)
    with pytest.raises(UserError, match="no column doc_id, task"):
        read_stored(file)


def test_a_file_that_was_replaced_is_not_mixed_with_its_outlines(
    files: tuple[Path, Path],
) -> None:
    first, second = files
    outlines = read_stored(first)
    second.replace(first)
    with pytest.raises(UserError, match="changed while it was read"):
        list(completed([[each] for each in outlines], TEXTS))
