"""Detects answers that lm-eval could not parse, and therefore scored as wrong or by a guess."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

# The result of lm-eval's regular-expression filters if they find nothing.
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
    """Whether no answer could be parsed from the response. Scored choices always have one."""
    if sample.choice_logprobs:
        return False
    return sample.guessed or sample.filtered.strip() in ("", INVALID)
