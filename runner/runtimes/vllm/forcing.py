"""Makes vLLM generate given tokens (`engine.logits_processors`), so their probabilities are seen.

vLLM reads log-probabilities before any logits processor (`logprobs_mode=raw_logprobs`), so they are
those that the model computes, and the forced token is always the one that is sampled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.interface import MoveDirectionality

from runner.lm.script import REPLAY

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor import BatchUpdate


class Forced(LogitsProcessor):
    """Leaves a single possible token in each step of a request that has a script."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        # Row of the batch: the script, and the tokens that vLLM has generated so far.
        self._rows: dict[int, tuple[list[int], list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """False: it decides which token is the likeliest."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the requests that enter, leave and move within the batch."""
        if batch_update is None:
            return
        for row, params, _, generated in batch_update.added:
            script = (params.extra_args or {}).get(REPLAY)
            self._rows.pop(row, None)
            if script is not None:
                self._rows[row] = (list(script), generated)
        for row in batch_update.removed:
            self._rows.pop(row, None)
        for source, target, how in batch_update.moved:
            moved: Any = self._rows.pop(source, None)
            replaced = self._rows.pop(target, None)
            if moved is not None:
                self._rows[target] = moved
            if how == MoveDirectionality.SWAP and replaced is not None:
                self._rows[source] = replaced

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits, [rows, vocabulary], with a single finite value in each scripted row."""
        wanted = {
            row: script[len(generated)]
            for row, (script, generated) in self._rows.items()
            # A token of a larger vocabulary can't be forced; the answer then differs, and says so.
            if len(generated) < len(script) and script[len(generated)] < logits.shape[1]
        }
        if not wanted:
            return logits
        rows = torch.tensor(list(wanted), device=logits.device)
        tokens = torch.tensor(list(wanted.values()), device=logits.device)
        logits[rows] = -torch.inf
        logits[rows, tokens] = 0.0
        return logits
