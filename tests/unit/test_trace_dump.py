"""A dump has whole outputs of both sides, in the traced tokens of as many questions as fit."""

from __future__ import annotations

import io
import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from runner.errors import UserError, cause
from runner.evidence.sketches import Sketches, read_outputs, read_sketches
from runner.plan import TracePlan
from runner.rundir import RunDirectory, read_json
from runner.runtimes.sketching.recorder import Columns, Recorder
from runner.trace import screen
from runner.trace.__main__ import main
from runner.trace.dump import LIMIT, Chosen, Index, choice, claim, megabytes, write
from runner.trace.result import TraceResult
from tests.traces import departing, result

WIDTH, TOKENS, QUESTIONS = 8, 6, 4
DOWN, BEFORE = "layers.2.mlp.down_proj", "layers.2.self_attn.o_proj"
LABELS = tuple(f"task {number} 0 0" for number in range(QUESTIONS))
# Bytes of one module's output for a question, of both sides.
EACH = 2 * TOKENS * WIDTH * 4


def _values(question: int, error: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(question)
    return torch.randn(TOKENS, WIDTH, generator=generator) * (1 + error)


def _recorded(
    directory: Path, plan: TracePlan, names: Sequence[str] = (BEFORE, DOWN), error: float = 0.0
) -> Path:
    recorder = Recorder(plan)
    for number, label in enumerate(LABELS):
        rows = recorder.tokens(recorder.question(label, [1]), 4, 0, TOKENS, 0)
        for name in names:
            wrong = _values(number, error if name == DOWN else 0.0)
            recorder.record(name, wrong.bfloat16() if name == BEFORE else wrong, rows)
    recorder.write(RunDirectory(directory).sketches)
    return directory


@pytest.fixture
def traced() -> TraceResult:
    return result(departing("prefill", DOWN, 100.0))


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Sketches, Sketches]:
    places = [_recorded(tmp_path / name, TracePlan()) for name in "ab"]
    first, second = (read_sketches(RunDirectory(place).sketches) for place in places)
    return first, second


def _written(
    directory: Path, traced: TraceResult, chosen: Chosen, limit: int = 10**6
) -> tuple[Path, Index]:
    target = directory / "whole"
    claim(target)
    return target, write(target, _replayed(directory, chosen), chosen, traced, limit)


def _replayed(directory: Path, chosen: Chosen) -> list[Path]:
    plan = TracePlan(whole=chosen.modules, questions=chosen.questions)
    return [
        _recorded(directory / f"{side}-dump", plan, error=error)
        for side, error in (("a", 0.0), ("b", 0.5))
    ]


def test_the_first_departing_module_and_the_one_before_are_written_with_an_index(
    traced: TraceResult, sides: tuple[Sketches, Sketches], tmp_path: Path
) -> None:
    chosen = choice(traced, (), *sides)
    assert chosen == Chosen((BEFORE, DOWN), LABELS, (), 2 * QUESTIONS * EACH)
    target, index = _written(tmp_path, traced, chosen)
    assert read_json(target / "index.json", Index) == index
    files = {str(each.relative_to(target)) for each in target.rglob("*.npy")}
    assert files == {each.file for each in index.arrays} and len(files) == 2 * 2 * QUESTIONS * 2
    for each in index.arrays:
        array = np.load(target / each.file, allow_pickle=False)
        assert (array.shape, str(array.dtype)) == (each.shape, each.dtype)
        assert each.positions == ((0, 1, 2, 3) if each.phase == "prefill" else (4, 5))
        assert each.computed == ("bfloat16" if each.module == BEFORE else "float32")
        expected = _values(int(each.question.split()[1]), 0.5 if each.side == "b" else 0.0)
        if each.module == BEFORE:
            expected = _values(int(each.question.split()[1])).bfloat16().float()
        assert np.array_equal(array, expected.numpy()[list(each.positions)])
    assert index.size == sum((target / each.file).stat().st_size - 128 for each in index.arrays)


def test_the_limit_holds_before_the_replay_and_before_anything_is_written(
    traced: TraceResult, sides: tuple[Sketches, Sketches], tmp_path: Path
) -> None:
    """The replays can record more rows than the traces have."""
    chosen = choice(traced, (), *sides, limit=6 * EACH)
    assert (chosen.questions, chosen.left_out) == (LABELS[:3], LABELS[3:])
    target, index = _written(tmp_path, traced, chosen, limit=5 * EACH)
    assert {each.question for each in index.arrays} == set(LABELS[:2])
    assert (index.left_out, index.size) == (LABELS[2:], 4 * EACH)
    assert sum(each.stat().st_size for each in target.rglob("*.npy")) < 5 * EACH + 128 * 32
    printed = io.StringIO()
    screen.show_dump(Console(file=printed, width=200), target, index)
    assert "left out of the dump" in printed.getvalue() and "2 questions" in printed.getvalue()


@pytest.mark.parametrize(
    ("patterns", "limit", "said"),
    [
        ((), EACH, "name fewer modules"),
        (("layers.9.*",), 10**6, "layers.9.* matches none"),
    ],
)
def test_what_can_not_be_dumped_is_one_message(
    patterns: Sequence[str],
    limit: int,
    said: str,
    traced: TraceResult,
    sides: tuple[Sketches, Sketches],
) -> None:
    with pytest.raises(UserError, match=said.replace("*", r"\*")):
        choice(traced, patterns, *sides, limit=limit)


def test_without_a_departure_modules_have_to_be_named(sides: tuple[Sketches, Sketches]) -> None:
    with pytest.raises(UserError, match="no module departs in eager mode; name modules"):
        choice(result(), (), *sides)
    assert choice(result(), ("*.down_*",), *sides).modules == (DOWN,)
    with pytest.raises(UserError, match="prompts differ"):
        choice(replace(result(), prompts=LABELS[:1]), ("*",), *sides)


def test_ranks_are_merged_and_nan_stays(tmp_path: Path) -> None:
    """The columns of two ranks, an output that both have, and a sum that is reduced later."""
    whole = _values(1)
    whole[2, 5], whole[3, 0] = float("nan"), float("-inf")
    plan = TracePlan(whole=("sharded", "norm", "copied", "sum"), questions=LABELS[:1])
    half = WIDTH // 2
    for rank in range(2):
        recorder = Recorder(plan)
        rows = recorder.tokens(recorder.question(LABELS[0], [1]), 4, 0, TOKENS, 0)
        other = recorder.tokens(recorder.question(LABELS[1], [1]), 4, 0, TOKENS, 0)
        assert not other.place
        own = slice(half * rank, half * (rank + 1))
        numbers = Columns(range(own.start, own.stop), WIDTH, sharded=True)
        recorder.record("sharded", whole[:, own], rows, numbers)
        recorder.record("norm", whole, rows, Columns(sharded=True, part=rank, parts=2))
        recorder.record("copied", whole, rows)
        recorder.record("sum", whole * rank + _values(2) * (1 - rank), rows)
        recorder.record("unnamed", whole, rows)
        recorder.write(tmp_path, rank)
    for number, wanted in enumerate((whole, whole, whole, whole + _values(2))):
        found = read_outputs(tmp_path / str(number))
        if number < 3:
            assert np.array_equal(found.sketch, wanted.numpy(), equal_nan=True), number
        finite = torch.isfinite(wanted)
        assert np.allclose(found.sketch[finite], wanted[finite]) and found.widths == [WIDTH]
    assert len(list(tmp_path.iterdir())) == len(plan.whole)


def test_a_full_disk_leaves_no_half_of_a_dump(
    traced: TraceResult, sides: tuple[Sketches, Sketches], tmp_path: Path
) -> None:
    """The error says what happened; larger files than that can't be written here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    chosen = choice(traced, (), *sides)
    places = _replayed(tmp_path, chosen)
    target = tmp_path / "whole"
    claim(target)
    header = 128
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (header + 2 * WIDTH * 4, hard)
    )  # of two answer tokens
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            write(target, places, chosen, traced)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cause(raised.value)
    assert not list(target.iterdir())


def test_the_documents_give_the_limit(capsys: Any) -> None:
    page = Path(__file__).parents[2] / "docs/trace.md"
    assert f"have at most {megabytes(LIMIT)}:" in page.read_text()
    assert main(["--help"]) == 0
    assert f"fit into {megabytes(LIMIT)}" in " ".join(capsys.readouterr().out.split())


def test_a_directory_in_use_is_refused_before_anything_runs(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "thesis.txt").write_text("")
    for directory, said in ((tmp_path, "is not empty"), (tmp_path / "thesis.txt", "File exists")):
        with pytest.raises(UserError, match=said):
            claim(directory)
    assert main(["a", "b", "--dump-modules", "lm_head"]) == 1
    assert "--dump-modules needs --dump DIR" in capsys.readouterr().err
