"""Answers that lm-eval could not read: what it scored then was nothing, or a guess of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.evidence.samples import Sample
    from runner.lm.samples import SampleRow

# What lm-eval's regular-expression filters put where they found nothing.
INVALID = "[invalid]"


def unparsable(sample: Sample | SampleRow) -> bool:
    """Whether no answer could be read from the response. Scored choices always have one."""
    if sample.choice_logprobs:
        return False
    return sample.guessed or sample.filtered.strip() in ("", INVALID)
