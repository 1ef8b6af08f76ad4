"""Prompts, letters and scores of multiple-choice questions: GPQA and MMLU-Pro."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from runner.evidence.unparsable import INVALID
from runner.tasks.replies import after_reasoning, last_boxed

Document = Mapping[str, Any]
Replies = Sequence[Sequence[str]]
GPQA_CHOICES = (
    "Correct Answer",
    "Incorrect Answer 1",
    "Incorrect Answer 2",
    "Incorrect Answer 3",
)
INSTRUCTION = (
    "Think the question through step by step. Then give your choice in the last line of your "
    'reply, in the form "Answer: X", where X is the letter of the right choice.'
)
# "A" and "I" are also words: "the answer is A good guess" chooses nothing.
_LETTER = r"([B-HJ-Z](?![\w'’])|[AI](?![\w'’])(?!\s+(?!because\b|since\b)[a-z]))"
_STATED = re.compile(
    r"(?i:\b(?:answer|option|choice))[\s\"'*_]*(?:(?i:is\b)|[:=])[\s\"'*_:$({\[\\]*"
    rf"(?:(?i:the|option|choice|letter|text|textbf|mathrm|mathbf)\b[\s\"'*_:$({{\[\\]*)*{_LETTER}"
)
_LINE = re.compile(rf"^[\s*_(\"'$]*{_LETTER}(?=\s*$|[\s*_\"'$]*[).:,]|[\s*_\"'$)]*$)")


def gpqa_prompt(document: Document) -> str:
    """Return GPQA's question with its shuffled choices."""
    return _prompt(str(document["Question"]).strip(), gpqa_choices(document))


def gpqa_choices(document: Document) -> list[str]:
    """Return GPQA's choices in an order that depends on nothing but their text.

    The data set lists the right choice first. A digest orders them, so that every run and every
    seed sees the same order, and the right letter is spread evenly.
    """
    question = str(document["Question"]).strip()
    choices = [str(document[name]).strip() for name in GPQA_CHOICES]
    return sorted(
        choices, key=lambda choice: hashlib.sha256(f"{question}\n{choice}".encode()).digest()
    )


def gpqa_answer(document: Document) -> str:
    """Return the letter of GPQA's right choice."""
    right = str(document["Correct Answer"]).strip()
    return ascii_uppercase[gpqa_choices(document).index(right)]


def mmlu_pro_prompt(document: Document) -> str:
    """Return MMLU-Pro's question with its choices, up to ten, in the data set's order."""
    return _prompt(document["question"].strip(), [each.strip() for each in document["options"]])


def letter_of_gpqa(replies: Replies, documents: Sequence[Document]) -> list[list[str]]:
    """Return the letter chosen in each reply, or `[invalid]`; a filter of lm-eval."""
    return [[letter(r, len(GPQA_CHOICES)) or INVALID for r in each] for each in replies]


def letter_of_mmlu_pro(replies: Replies, documents: Sequence[Document]) -> list[list[str]]:
    """Return the letter chosen in each reply, or `[invalid]`; a filter of lm-eval."""
    return [
        [letter(r, len(document["options"])) or INVALID for r in each]
        for each, document in zip(replies, documents, strict=True)
    ]


def gpqa_score(document: Document, answers: Sequence[str]) -> dict[str, float]:
    """Return `exact_match`: 1 for the right letter, else 0."""
    return {"exact_match": float(answers[0] == gpqa_answer(document))}


def mmlu_pro_score(document: Document, answers: Sequence[str]) -> dict[str, float]:
    """Return `exact_match`: 1 for the right letter, else 0."""
    return {"exact_match": float(answers[0] == document["answer"])}


def letter(reply: str, choices: int) -> str | None:
    """Return the letter that the reply settles on last; None if it names none of the choices."""
    text = after_reasoning(reply)
    found = [(match.start(), match.group(1)) for match in _STATED.finditer(text)]
    boxed = last_boxed(text)
    if boxed is not None:
        inside = re.sub(r"\\[a-z]+|[{}]", " ", boxed[1])
        if match := _LINE.match(inside):
            found.append((boxed[0], match.group(1)))
    lines = text.strip().splitlines()
    if not found and lines and (match := _LINE.match(lines[-1])):
        found.append((0, match.group(1)))
    last = max(found)[1] if found else None
    return last if last is not None and last in ascii_uppercase[:choices] else None


def _prompt(question: str, choices: Sequence[str]) -> str:
    lines = [f"{name}. {text}" for name, text in zip(ascii_uppercase, choices, strict=False)]
    return "\n".join([question, "", *lines, "", INSTRUCTION])
