"""Answers that lm-eval could not read: what it scored then was nothing, or a guess of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

# What lm-eval's regular-expression filters put where they found nothing.
INVALID = "[invalid]"


class Answered(Protocol):
    """A sample, as the worker writes it or as it is read back."""

    @property
    def choice_logprobs(self) -> Sequence[float] | None: ...

    @property
    def guessed(self) -> bool: ...

    @property
    def filtered(self) -> str: ...


def unparsable(sample: Answered) -> bool:
    """Whether no answer could be read from the response. Scored choices always have one."""
    if sample.choice_logprobs:
        return False
    return sample.guessed or sample.filtered.strip() in ("", INVALID)
