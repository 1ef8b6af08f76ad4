"""Makes transformers generate given tokens, so the probabilities of a known answer are seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


class Forced(LogitsProcessor):
    """Leaves a single possible token in each step of each row; rows without tokens stay free."""

    def __init__(self, scripts: Sequence[Sequence[int]], prompt_length: int) -> None:
        """Set the tokens of each row, and the length of the padded prompts."""
        self._scripts = scripts
        self._prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores, [rows, vocabulary], with a single finite value where a script goes on.

        The given scores stay as they are: they are what is recorded.
        """
        step = input_ids.shape[1] - self._prompt_length
        scores = scores.clone()
        for row, script in enumerate(self._scripts):
            # A token of a larger vocabulary can't be forced; the answer then differs, and says so.
            if step < len(script) and script[step] < scores.shape[1]:
                scores[row] = -torch.inf
                scores[row, script[step]] = 0.0
        return scores
