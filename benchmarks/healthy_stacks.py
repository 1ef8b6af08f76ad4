"""Healthy stacks that round otherwise than the reference: noise runs, and one that is judged."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch

from runner.canary.fault import Change, Fault
from runner.canary.faults import arithmetic

# Numbers of ranks whose partial sums are added, as with tensor parallelism: three noise runs.
RANKS = (1, 2, 4)
HEALTHY = "bf16 arithmetic, another attention kernel"


def healthy_stacks() -> list[Fault]:
    """The reference, its noise runs and the stack that is judged, in this order."""
    reference, bfloat16 = arithmetic()
    return [reference, *noise_runs(bfloat16), _other_kernel(bfloat16)]


def noise_runs(bfloat16: Fault) -> list[Fault]:
    """bfloat16 arithmetic with each number of ranks."""
    return [
        replace(bfloat16, name=f"{bfloat16.name}, tp={ranks}", change=_parallel(bfloat16, ranks))
        for ranks in RANKS
    ]


def _other_kernel(bfloat16: Fault) -> Fault:
    """Attention of the language model in plain matrix products, not in one kernel."""

    def change(model: Any) -> None:
        assert bfloat16.change is not None
        bfloat16.change(model)
        model.set_attn_implementation("eager")

    return replace(bfloat16, name=HEALTHY, change=change)


class _Split(torch.nn.Module):
    """A linear layer whose input is split among ranks, which round their partial sums."""

    def __init__(self, whole: torch.nn.Linear, ranks: int) -> None:
        super().__init__()
        self.whole, self.ranks = whole, ranks

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        parts = zip(
            states.chunk(self.ranks, -1), self.whole.weight.chunk(self.ranks, 1), strict=True
        )
        total = sum((own @ weight.T for own, weight in parts), torch.zeros((), dtype=states.dtype))
        return total if self.whole.bias is None else total + self.whole.bias


class _SplitExperts(torch.nn.Module):
    """A layer's experts, each split among ranks, which round the sums of their parts."""

    def __init__(self, whole: Any, ranks: int) -> None:
        super().__init__()
        self.ranks = torch.nn.ModuleList(copy.deepcopy(whole) for _ in range(ranks))
        gate, up = whole.gate_up_proj.data.chunk(2, 1)
        parts = (gate.chunk(ranks, 1), up.chunk(ranks, 1), whole.down_proj.data.chunk(ranks, 2))
        for rank, own_gate, own_up, own_down in zip(self.ranks, *parts, strict=True):
            rank.gate_up_proj.data = torch.cat((own_gate, own_up), 1)
            rank.down_proj.data = own_down.contiguous()

    def forward(self, states: torch.Tensor, *routing: torch.Tensor) -> torch.Tensor:
        return sum((rank(states, *routing) for rank in self.ranks), torch.zeros_like(states))


def _parallel(bfloat16: Fault, ranks: int) -> Change:
    """Split the layers after which tensor parallelism adds up the ranks' results."""

    def change(model: Any) -> None:
        assert bfloat16.change is not None
        bfloat16.change(model)
        for module in list(model.modules()) if ranks > 1 else ():
            for name in ("o_proj", "down_proj"):
                if isinstance(getattr(module, name, None), torch.nn.Linear):
                    setattr(module, name, _Split(getattr(module, name), ranks))
            if hasattr(module, "experts"):
                module.experts = _SplitExperts(module.experts, ranks)

    return change
