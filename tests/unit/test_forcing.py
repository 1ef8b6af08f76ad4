"""The logits processor that makes transformers generate given tokens."""

from __future__ import annotations

import torch

from runner.runtimes.hf.forcing import Forced


def test_transformers_processor_leaves_the_recorded_scores_as_they_are() -> None:
    processor = Forced([[3, 4], [7]], prompt_length=2)
    scores = torch.randn(2, 10)
    before = scores.clone()
    first = processor(torch.zeros(2, 2, dtype=torch.long), scores)
    assert first.argmax(dim=1).tolist() == [3, 7]
    assert torch.equal(scores, before)
    second = processor(torch.zeros(2, 3, dtype=torch.long), scores)
    assert second[0].argmax() == 4
    assert torch.equal(second[1], before[1])
