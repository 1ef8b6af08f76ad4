"""Run by test_forcing.py, where vLLM can be imported: the processor in vLLM's own batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.logits_processor.interface import MoveDirectionality

from runner.runtimes.vllm.forcing import Forced

CPU = torch.device("cpu")


def forced(*rows: list[int] | None) -> tuple[Forced, list[list[int]]]:
    """A processor with these scripts in the rows of a batch, and the tokens generated so far."""
    processor = Forced(SimpleNamespace(), CPU, False)  # type: ignore[arg-type]
    generated: list[list[int]] = [[] for _ in rows]
    processor.update_state(
        BatchUpdate(len(rows), [], [_added(n, rows[n], generated[n]) for n in range(len(rows))], [])
    )
    return processor, generated


def _added(row: int, script: list[int] | None, generated: list[int]) -> Any:
    arguments = None if script is None else {"replay": script}
    return (row, SimpleNamespace(extra_args=arguments), None, generated)


def chosen(processor: Forced, rows: int) -> list[int]:
    """The likeliest tokens where token 0 is the model's own choice."""
    logits = torch.zeros(rows, 10)
    logits[:, 0] = 5.0
    return processor.apply(logits).argmax(dim=1).tolist()


def test_each_row_follows_its_script_and_others_stay_free() -> None:
    processor, generated = forced([3, 4], None, [7])
    assert chosen(processor, 3) == [3, 0, 7]
    for tokens, token in zip(generated, (3, 0, 7), strict=True):
        tokens.append(token)
    processor.update_state(None)
    assert chosen(processor, 3) == [4, 0, 0]


def test_a_forced_token_is_the_only_possible_one() -> None:
    processor, _ = forced([3])
    logits = processor.apply(torch.randn(1, 10))
    assert torch.isfinite(logits).nonzero().tolist() == [[0, 3]]


def test_requests_that_move_within_the_batch_keep_their_scripts() -> None:
    processor, _ = forced([1], [2], [3])
    moves = [(0, 1, MoveDirectionality.SWAP), (2, 0, MoveDirectionality.UNIDIRECTIONAL)]
    processor.update_state(BatchUpdate(2, [], [], moves))
    assert chosen(processor, 2) == [3, 1]


def test_a_row_that_leaves_is_free_for_a_request_without_a_script() -> None:
    processor, _ = forced([1], [2])
    processor.update_state(BatchUpdate(1, [1], [], []))
    assert chosen(processor, 2) == [1, 0]
    processor.update_state(BatchUpdate(1, [], [_added(0, None, [])], []))
    assert chosen(processor, 1) == [0]


def test_a_request_that_continues_after_a_preemption_goes_on_where_it_was() -> None:
    processor = Forced(SimpleNamespace(), CPU, False)  # type: ignore[arg-type]
    processor.update_state(BatchUpdate(1, [], [_added(0, [5, 6, 7], [5, 6])], []))
    assert chosen(processor, 1) == [7]
