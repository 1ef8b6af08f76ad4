"""A fault in the KV cache: a block holds the keys and values of another request."""

from typing import Any

import torch
from torch import Tensor

from runner.canary.fault import Fault
from runner.canary.library import (
    AttentionInterface,
    AttentionMaskInterface,
    sdpa_attention_forward,
    sdpa_mask,
)

BLOCK = 16  # positions, vLLM's default block size
# The second block. Every prompt of the canary is longer, and it holds image tokens and text.
START, END = BLOCK, 2 * BLOCK
NAME = "stale_block"


def stale_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention with a stale block; tensors are (batch, heads, length, width).

    Positions after the block read its keys and values from the question before in the batch (the
    first question from the last). The block itself and what precedes it are computed as usual:
    these are the keys and values that the other request wrote.
    """
    healthy, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    key, value = (_stale(states) for states in (key, value))
    faulty, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return torch.cat((healthy[:, :END], faulty[:, END:]), 1), None


def _stale(states: Tensor) -> Tensor:
    changed = states.clone()
    changed[:, :, START:END] = states[:, :, START:END].roll(1, 0)
    return changed


def _use_stale_block(model: Any) -> None:
    AttentionInterface.register(NAME, stale_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.model.language_model.set_attn_implementation(NAME)


def cache_faults() -> list[Fault]:
    """The faults of the KV cache, which are in what a stack computes from correct files."""
    return [
        Fault(
            "stale KV block",
            "A block of the prefix cache still holds the keys and values of another request.",
            change=_use_stale_block,
        )
    ]
