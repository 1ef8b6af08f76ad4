r"""Find answers in replies: after the reasoning, in the last `\boxed{…}`, or the last number."""

from __future__ import annotations

import re

THINK, END_OF_THINKING = "<think>", "</think>"
NUMBER = r"[-−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?"
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is no group
# "The answer is 12", "**Answer:** $\frac12$": only what looks like mathematics, no prose.
_STATED = re.compile(
    rf"(?i:\banswer)[\s*]*(?:(?i:is\b)|[:=])[\s*:]*(\$[^$\n]+\$|\\\(.+?\\\)|\$?{NUMBER}|\\frac\S+)"
)
# The minus of 5-3 is no sign, and the 2 of x2 no number.
_ALONE = re.compile(rf"(?<![\w.)]){NUMBER}")


def after_reasoning(reply: str) -> str:
    """Return what follows the reasoning; the empty string if the reasoning did not end."""
    _, end, answer = reply.rpartition(END_OF_THINKING)
    if not end and reply.lstrip().startswith(THINK):
        return ""
    return answer


def last_boxed(text: str) -> tuple[int, str] | None:
    r"""Return position and content of the last `\boxed{…}` that is not empty.

    None if there is none, or if the last one is cut off.
    """
    for box in reversed(list(_BOX.finditer(text))):
        content = _braced(text, box.end())
        if content != "":
            return None if content is None else (box.start(), content)
    return None


def _braced(text: str, start: int) -> str | None:
    """What follows up to the closing brace; None if there is no such brace."""
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[start : brace.start()].strip()
    return None


def final_answer(text: str) -> str | None:
    """Return the last boxed answer, else the last one after "answer is" or "answer:"."""
    if _BOX.search(text):
        boxed = last_boxed(text)
        return boxed[1] if boxed is not None else None
    stated = _STATED.findall(text)
    return str(stated[-1]) if stated else None


def last_number(text: str) -> str | None:
    """Return the last number in a text without boxes: sign, thousands separators, fraction."""
    numbers = [] if _BOX.search(text) else _ALONE.findall(text)
    return str(numbers[-1]) if numbers else None
