"""The likeliest tokens that an ordinary run records: which, in what file, and how they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.errors import UserError
from runner.evidence.likeliest import with_likeliest
from runner.evidence.samples import Sample, read_samples
from runner.lm.building import build_requests
from runner.lm.likeliest_table import likeliest_table, write_likeliest
from runner.lm.recording import STEPS, mark
from runner.lm.sample_table import SampleRow, sample_table, write_samples
from runner.lm.script import CANDIDATES, RECORD
from runner.lm.tasks import LoadedTask
from runner.lm.top import packed
from tests.unit.test_building import Load, Recording, load
from tests.unit.test_samples import ROW

__all__ = ["load"]

LISTED = 25  # tokens of the vocabulary


def answer(doc_id: int, tokens: int, listed: int = LISTED) -> SampleRow:
    """A row whose own token is the likeliest of each step; `listed` tokens have a probability."""
    values = np.log(np.random.default_rng(doc_id).dirichlet(np.ones(LISTED), tokens))
    order = np.argsort(-values, axis=1)[:, : min(listed, CANDIDATES)]
    best = np.take_along_axis(values, order, axis=1).astype(np.float32)
    return replace(
        ROW,
        doc_id=doc_id,
        evaluation="mini",
        token_ids=order[:, 0].tolist(),
        logprobs=best[:, 0].tolist(),
        margins=[1.0] * tokens,
        likeliest=(packed(order, best),),
    )


def written(directory: Path, rows: Sequence[SampleRow]) -> tuple[list[Sample], Path]:
    """What a run with these rows leaves: its samples, and the file beside them."""
    write_samples(directory / "samples.parquet", [sample_table(list(rows))])
    file = directory / "likeliest.parquet"
    write_likeliest(file, [likeliest_table(rows[:-1]), likeliest_table(rows[-1:])])
    return read_samples(directory / "samples.parquet"), file


def relisted(row: SampleRow, of: SampleRow, damage: float | None = None) -> SampleRow:
    """The row with the lists of another answer, or with one damaged log-probability."""
    if damage is None:
        return replace(row, likeliest=of.likeliest)
    values = np.log(np.random.default_rng(row.doc_id).dirichlet(np.ones(LISTED), 4))
    order = np.argsort(-values, axis=1)[:, :CANDIDATES]
    best = np.take_along_axis(values, order, axis=1).astype(np.float32)
    best[2, -1] = damage
    return replace(row, likeliest=(packed(order, best),))


def test_lists_of_other_tokens_or_with_a_nan_are_rejected(tmp_path: Path) -> None:
    row, other = answer(3, 4), answer(5, 4)
    far = replace(row, token_ids=[each + 1000 for each in row.token_ids])  # in no list
    for number, wrong in enumerate(
        (relisted(far, other), relisted(row, other), relisted(row, row, math.nan))
    ):
        place = tmp_path / str(number)
        place.mkdir()
        samples, file = written(place, [wrong, answer(4, 2)])
        with pytest.raises(UserError, match="is not of the answers in"):
            with_likeliest(samples, file)
    rare = replace(far, logprobs=[-30.0] * 4)  # too improbable for the lists
    (tmp_path / "rare").mkdir()
    samples, file = written(tmp_path / "rare", [rare, answer(4, 2)])
    assert len(with_likeliest(samples, file)[0].top_ids) == 80


def test_a_flipped_bit_is_one_message(tmp_path: Path) -> None:
    samples, file = written(tmp_path, [answer(number, 4) for number in range(20)])
    content, whole = bytearray(file.read_bytes()), with_likeliest(samples, file)
    lists = [(list(each.top_ids), list(each.top_logprobs)) for each in whole]
    rejected = 0
    for place in range(4, len(content), 97):
        damaged = content.copy()
        damaged[place] ^= 0x10
        file.write_bytes(damaged)
        try:
            found = with_likeliest(samples, file)
        except UserError:
            rejected += 1
        else:  # of what nobody reads, such as statistics
            assert [(list(each.top_ids), list(each.top_logprobs)) for each in found] == lists
    assert rejected > len(content) / 97 / 2


def test_the_lists_come_back_in_the_order_of_probability(tmp_path: Path) -> None:
    rows = [answer(3, 4), answer(4, 2)]
    rows.insert(1, replace(rows[0], filter="strict"))
    samples, file = written(tmp_path, rows)
    assert all(len(each.top_ids) == 0 for each in samples)  # samples.parquet stays small
    found = with_likeliest(samples, file)
    assert [len(each.top_ids) for each in found] == [80, 80, 40]
    for each in found:
        ids = np.asarray(each.top_ids).reshape(-1, CANDIDATES)
        values = np.asarray(each.top_logprobs).reshape(-1, CANDIDATES)
        assert ids[:, 0].tolist() == list(each.token_ids)
        assert values[:, 0].tolist() == list(each.logprobs)
        assert (np.diff(values, axis=1) <= 0).all()
    assert pq.read_table(file).num_rows == 2  # not one for each filter


def test_an_older_run_has_no_file(tmp_path: Path) -> None:
    samples, file = written(tmp_path, [replace(answer(3, 4), likeliest=())])
    assert not file.exists()
    assert with_likeliest(samples, file) == samples


def test_a_file_of_other_answers_is_rejected(tmp_path: Path) -> None:
    samples, file = written(tmp_path, [answer(3, 4)])
    moved = [replace(samples[0], logprobs=[each - 0.01 for each in samples[0].logprobs])]
    with pytest.raises(UserError, match=r"likeliest.parquet: is not of the answers .*document 3"):
        with_likeliest(moved, file)
    broken = [replace(samples[0], logprobs=[math.nan] * 4)]
    assert len(with_likeliest(broken, file)[0].top_ids) == 80  # the rule itself fails on NaN
    file.write_bytes(b"PAR1 cut short")
    with pytest.raises(UserError, match="cannot be read"):
        with_likeliest(samples, file)
    pq.write_table(pa.table({"task": ["x"]}), file)
    with pytest.raises(UserError, match="has no column"):
        with_likeliest(samples, file)


def test_lists_that_cannot_show_a_difference_are_left_out(tmp_path: Path) -> None:
    """A single listed token has no other that it could move against: its variance is always 0."""
    rows = [answer(3, 4, listed=1), answer(4, 4, listed=2), replace(answer(5, 3), token_ids=[1])]
    samples, file = written(tmp_path, rows)
    found = with_likeliest(samples, file)
    assert [len(each.top_ids) for each in found] == [0, 80, 0]


def marked(loaded: Sequence[LoadedTask]) -> dict[str, list[int]]:
    """The recorded documents of each subtask."""
    return {
        name: [each.doc_id for each in leaf.instances if each.args[1].get(RECORD)]
        for task in loaded
        for name, leaf in task.leaves.items()
    }


def test_first_questions_are_recorded_up_to_a_number_of_steps(load: Load) -> None:
    of_four = {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 4}}
    other = {"generation_kwargs": {"until": ["\n"]}}
    manager, loaded, plan = load({"one": of_four, "two": other}, limit=3.0)
    build_requests(Recording(), manager, loaded, plan)
    assert marked(loaded) == {"one": [], "two": []}
    mark(loaded, longest=10, steps=2 * 14 + 4)
    assert marked(loaded) == {"one": [0, 1, 2], "two": [0, 1]}


def test_the_whole_plan_is_recorded_if_it_fits(load: Load) -> None:
    manager, loaded, plan = load({"one": {}}, limit=3.0)
    build_requests(Recording(), manager, loaded, replace(plan, distributions=True))
    assert marked(loaded) == {"one": [0, 1, 2]}
    assert STEPS * CANDIDATES * 8 < 170e6  # as docs/verdict.md says
