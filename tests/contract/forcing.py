"""Run by test_forcing.py, where vLLM can be imported: the processor in vLLM's own batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.logits_processor.interface import MoveDirectionality

from runner.runtimes.vllm.engine import Question, replayed
from runner.runtimes.vllm.forcing import Forced
from runner.runtimes.vllm.models import FedVLLM

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


def test_a_token_outside_the_vocabulary_is_not_forced() -> None:
    processor, _ = forced([10], [3])
    assert chosen(processor, 2) == [0, 3]


def test_a_truncated_prompt_is_seen_though_a_replay_asks_for_few_tokens() -> None:
    lm: Any = SimpleNamespace(max_length=64, tok_encode=lambda text: [0] * len(text))

    def cut(prompt: int, text: int, appended: int = 0) -> bool:
        question = Question(
            {"prompt_token_ids": [0] * prompt},
            SimpleNamespace(max_tokens=3),
            "generate",
            lambda output: output,
            appended=appended,
        )
        request: Any = SimpleNamespace(args=("x" * text,))
        return FedVLLM._is_cut(lm, request, question)

    assert cut(48, 60) and cut(51, 60, appended=3)
    assert not cut(48, 48) and not cut(51, 48, appended=3)


def test_a_prompt_that_a_server_finds_too_long_is_not_replayed() -> None:
    completion = SimpleNamespace(
        token_ids=(), logprobs=None, finish_reason="prompt_too_long", text=""
    )
    answer = replayed(SimpleNamespace(outputs=[completion], prompt_token_ids=None))
    assert answer.finish_reason == "prompt_too_long"
