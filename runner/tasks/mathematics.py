"""Read and score mathematical answers: AIME, MATH-500 and GSM8K."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from math_verify import parse, verify

from runner.evidence.unparsable import INVALID
from runner.tasks.replies import NUMBER, after_reasoning, final_answer, last_number

Replies = Sequence[Sequence[str]]
# A comparison that takes longer counts as unequal.
LIMIT_S = 5
_PLAIN = re.compile(rf"\+?({NUMBER}|[-−]?\.\d+)")
_CURRENCY = re.compile(r"\\\$|\\text\{\s*\$\s*\}|^\$|[€£¥]")
_SEPARATOR = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!|\s)(?=\d{3}(?!\d))")
_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")


def boxed(replies: Replies, documents: object) -> list[list[str]]:
    """Return the final answer of each reply, or `[invalid]`; a filter of lm-eval."""
    return [[final_answer(after_reasoning(r)) or INVALID for r in each] for each in replies]


def boxed_or_last_number(replies: Replies, documents: object) -> list[list[str]]:
    """Return the final answer of each reply, else its last number, or `[invalid]`."""
    return [[_any_number(after_reasoning(r)) or INVALID for r in each] for each in replies]


def score(document: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float]:
    """Return `exact_match`: 1 if the answer equals the document's, else 0."""
    (given,) = answers
    return {"exact_match": float(given != INVALID and equal(given, truth(document)))}


def truth(document: Mapping[str, Any]) -> str:
    """Return the document's answer; in GSM8K, it follows the solution after `####`."""
    field = next(name for name in document if name.lower() == "answer")
    return str(document[field]).rpartition("####")[2].strip()


def equal(given: str, right: str) -> bool:
    """Return whether two answers are mathematically equal.

    Numbers are compared exactly, everything else by math-verify. A percent sign is ignored.
    """
    one, other = _tidied(given), _tidied(right)
    if _spelled(one) == _spelled(other):
        return True
    numbers = _number(one), _number(other)
    if None not in numbers:
        return numbers[0] == numbers[1]
    # math-verify's timeout is a signal, which only the main thread can receive.
    limit = LIMIT_S if threading.current_thread() is threading.main_thread() else None
    read = [parse(rf"\boxed{{{text}}}", parsing_timeout=limit) for text in (other, one)]
    return bool(all(read) and verify(*read, timeout_seconds=limit))


def _any_number(text: str) -> str | None:
    return final_answer(text) or last_number(text)


def _tidied(text: str) -> str:
    """The answer without dollar signs, currency, percent sign and thousands separators."""
    text = text.strip().removeprefix(r"\(").removesuffix(r"\)").strip()
    if len(text) > 1 and text.startswith("$") and text.endswith("$"):
        text = text[1:-1]
    text = _CURRENCY.sub("", text.strip())
    text = re.sub(r"\s*\\?%\s*$", "", _SEPARATOR.sub("", text))
    return text.replace("−", "-").replace("°", r"^\circ").strip().rstrip(".").strip()


def _spelled(text: str) -> str:
    r"""The answer as text: `\text{ (B) }`, `(B)` and `B` are the same."""
    plain = _WORDS.sub(r"\1", text).replace(r"\ ", "")
    plain = re.sub(r"\s+", "", plain)
    letter = re.fullmatch(r"\(?([A-Za-z])\)?", plain)
    return letter.group(1) if letter else plain.casefold() if plain.isalpha() else plain


def _number(text: str) -> Fraction | None:
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    numerator, _, denominator = match.group(1).replace(",", "").partition("/")
    if denominator and not int(denominator):
        return None
    return Fraction(numerator) / Fraction(denominator or 1)
