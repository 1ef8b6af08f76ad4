"""Keeps the experts that routers choose for the tokens that a trace covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runner.evidence.choices import Choices

if TYPE_CHECKING:
    import torch

    from runner.runtimes.sketching.recorder import Rows


@dataclass
class _Block:
    """The choices of one router so far."""

    number: int = 0
    keys: list[tuple[int, int, int]] = field(default_factory=list)
    chosen: list[NDArray[Any]] = field(default_factory=list)


class Routes:
    """The choices of one run on one rank."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, bool], _Block] = {}

    def record(
        self, block: str, chosen: torch.Tensor, rows: Rows, number: int, told: bool = True
    ) -> None:
        """Record the choices, [rows, experts per token], of a block with `number` experts.

        Those that the router has `told` are kept rather than those that its logits suggest.
        """
        if not rows.place:
            return
        kept = self._blocks.setdefault((block, told), _Block())
        kept.number = number
        kept.keys += rows.keys
        kept.chosen.append(chosen.detach()[rows.place].cpu().numpy())

    def all(self, questions: Sequence[str]) -> Mapping[str, Choices]:
        """The choices by block, with the labels of the questions by number."""
        found = {}
        for (name, told), block in self._blocks.items():
            if not told and (name, True) in self._blocks:
                continue
            # A request that was preempted computes some of its tokens twice.
            first = {key: place for place, key in reversed(list(enumerate(block.keys)))}
            tokens = [(questions[number], phase, position) for number, phase, position in first]
            chosen = np.concatenate(block.chosen)[list(first.values())]
            found[name] = Choices(block.number, tokens, chosen)
        return found
