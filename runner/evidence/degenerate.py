"""Detects degenerate answers: those that say more about a fault than about the question."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence

from runner.language import N_, gettext, translated
from runner.outcome import Degeneracy

# An answer repeats itself if its end is one phrase of at most LONGEST_PHRASE tokens, TURNS times or
# more, over SPAN tokens or more. Tables, code and lists of numbers repeat themselves too, but
# hardly ever this long, word for word and up to the end. Of 115,540 pieces of 64 to 1,500 tokens
# that were cut at random out of source code, documentation, tables and data, 0.03 % do, all of them
# cut in the middle of equal numbers or lines; of 9,248 whole files, none does. Of loops of 1 to 128
# tokens that begin in the first three quarters of an answer, 79 % are found if the answer has 256
# tokens, 90 % if it has 512, and 98 % if it has 1,024 (tests/unit/test_degenerate.py).
SPAN = 64
TURNS = 4
LONGEST_PHRASE = 256
# A token stands for about four characters.
SPAN_OF_TEXT = 4 * SPAN
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# A character of UTF-8 that is cut short leaves up to three bytes, each decoded on its own.
MOST_LEFT_BYTES = 3

SAID = {
    Degeneracy.NOT_A_NUMBER: N_("have a log-probability that is NaN or infinite"),
    Degeneracy.REPEATING: N_("repeat the same tokens to the end"),
    Degeneracy.REPLACEMENT: N_("contain the replacement character U+FFFD"),
    Degeneracy.EMPTY: N_("are empty"),
}


def named(kinds: Iterable[str]) -> str:
    """Return the kinds of an answer, each once, as reports name them."""
    return gettext(", ").join(translated(kind) for kind in dict.fromkeys(kinds))


def is_not_a_number(logprobs: Iterable[float]) -> bool:
    """Whether any of the log-probabilities is NaN or infinite."""
    return not math.isfinite(sum(logprobs))


def is_repeating(token_ids: Sequence[Hashable], text: str) -> bool:
    """Whether an answer ends in one phrase repeated over and over.

    `token_ids` are the answer's tokens; the `text` is read instead if they are unknown.
    """
    if len(token_ids):
        return _repeats(tuple(token_ids), SPAN)
    return _repeats(text, SPAN_OF_TEXT)


def has_replacement(text: str, prompt: str, cut: bool) -> bool:
    """Whether an answer's bytes are no valid text.

    An answer that was `cut` at the token limit may end within a character, and one whose prompt has
    the replacement character may quote it.
    """
    if cut:
        for _ in range(MOST_LEFT_BYTES):
            text = text.removesuffix(REPLACEMENT)
    return REPLACEMENT in text and REPLACEMENT not in prompt


def is_empty(text: str, written: str, stops: Iterable[str]) -> bool:
    """Whether the model wrote nothing.

    `text` is the answer, `written` what its tokens spell, and `stops` are the texts that end it. An
    answer that is empty because the model began with a stop text, or because only its reasoning was
    taken out, is not degenerate.
    """
    if text.strip() or written.strip():
        return False
    return not any(stop and stop in written for stop in stops)


def _repeats(units: Sequence[Hashable], span: int) -> bool:
    """Whether the units end in a repeated phrase; the last one may be the end token."""
    return any(_ends_in_repeats(units, end, span) for end in (len(units), len(units) - 1))


def _ends_in_repeats(units: Sequence[Hashable], end: int, span: int) -> bool:
    for phrase in range(1, LONGEST_PHRASE + 1):
        start = end - max(span, TURNS * phrase)
        if start < 0:
            return False
        if (
            units[end - 1] == units[end - 1 - phrase]  # rarely true, and faster than the slices
            and units[start + phrase : end] == units[start : end - phrase]
        ):
            return True
    return False
