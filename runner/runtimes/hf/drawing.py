"""Samples each row of a batch with a generator of its own, so an answer depends on its seed alone.

transformers draws all rows of a batch from one generator: the same request would get another answer
in another batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import (
    EpsilonLogitsWarper,
    LogitsProcessor,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

# Sampling settings in the order in which transformers applies them, and the values that change
# nothing. vLLM writes "all tokens" as top_k=-1.
WARPERS: Mapping[str, tuple[Callable[[Any], LogitsProcessor], tuple[Any, ...]]] = {
    "temperature": (TemperatureLogitsWarper, (None, 1.0)),
    "top_k": (TopKLogitsWarper, (None, 0, -1)),
    "top_p": (TopPLogitsWarper, (None, 1.0)),
    "min_p": (MinPLogitsWarper, (None, 0.0)),
    "typical_p": (TypicalLogitsWarper, (None, 1.0)),
    "epsilon_cutoff": (EpsilonLogitsWarper, (None, 0.0)),
}


class Draw(LogitsProcessor):
    """Leaves each row's drawn token as its best one, so greedy decoding takes it."""

    def __init__(self, sampling: Mapping[str, Any], seeds: Sequence[int | None]) -> None:
        self._warpers = [
            warper(_typed(name, sampling[name]))
            for name, (warper, neutral) in WARPERS.items()
            if sampling.get(name) not in neutral
        ]
        self._generators = [torch.Generator() for _ in seeds]
        for generator, seed in zip(self._generators, seeds, strict=True):
            generator.seed() if seed is None else generator.manual_seed(seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The next token's scores, [rows, vocabulary]; the largest of a row is its draw.

        With exponential noise e, the index of the largest p/e has the distribution p.
        """
        for warper in self._warpers:
            scores = warper(input_ids, scores)
        # Drawn on the CPU, so the same seed gives the same noise on every device.
        noise = torch.stack(
            [
                torch.empty(scores.shape[-1]).exponential_(generator=each)
                for each in self._generators
            ]
        )
        return scores.float().softmax(dim=-1) / noise.to(scores.device)


def _typed(name: str, value: Any) -> Any:
    return int(value) if name == "top_k" else float(value)
