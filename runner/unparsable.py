"""Answers that lm-eval could not read: what it scored then was nothing, or a guess of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping

from runner.samples import Sample

# What lm-eval's regular-expression filters put where they found nothing.
INVALID = "[invalid]"
# MMMU's question with options, as lm-eval asks it, and one of its options.
MMMU_CHOICE = "Answer with the option's letter from the given choices directly."
OPTION = re.compile(r"^\(([A-I])\) (.*)$", re.MULTILINE)


def unparsable(sample: Sample) -> bool:
    """Whether no answer could be read from the response. Scored choices always have one."""
    if sample.choice_logprobs:
        return False
    if sample.filtered.strip() in ("", INVALID):
        return True
    if MMMU_CHOICE in sample.prompt and len(sample.responses) == 1:
        asked = sample.prompt.rpartition(MMMU_CHOICE)[0]
        return guessed(sample.responses[0], dict(OPTION.findall(asked)))
    return False


def guessed(response: str, options: Mapping[str, str]) -> bool:
    """Whether lm_eval.tasks.mmmu.utils.parse_multi_choice_response drew a letter at random."""
    for character in (",", ".", "!", "?", ";", ":", "'"):
        response = response.strip(character)
    padded = f" {response} "
    if any(f"({letter})" in padded or f" {letter} " in padded for letter in options):
        return False
    long_enough = len(padded.split()) > 5
    return not (long_enough and any(text.lower() in padded.lower() for text in options.values()))
