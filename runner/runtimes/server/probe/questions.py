"""What is asked: texts for the tokenizer, stories, numbers to copy, and numbers in images."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from typing import Any

from runner.canary.prompt import body
from runner.canary.questions import ask

# Each has something that tokenizers differ in.
TEXTS = {
    "English": "The quick brown fox jumps over the lazy dog.",
    "Chinese": "今天天气很好，我们去公园散步吧。",
    "numbers": "3.14159, 1,024 and 2026-11-25",
    "code": "def square(x):\n\treturn x ** 2  # two  spaces\n",
    "other scripts": "naïve cafe\u0301, Ελληνικά, हिन्दी, 🧪👩‍🔬",
}
_SYSTEM = {"role": "system", "content": "Answer in one word."}
_USER = {"role": "user", "content": "What colour is the sky?"}
_ASSISTANT = {"role": "assistant", "content": "Blue."}
_AGAIN = {"role": "user", "content": "And at night?"}
CONVERSATIONS = {
    "chat": (_USER,),
    "chat with system message": (_SYSTEM, _USER),
    "chat of several turns": (_SYSTEM, _USER, _ASSISTANT, _AGAIN),
}

_WHO = ("baker", "captain", "teacher", "painter", "farmer", "doctor", "singer", "miller")
_DOES = ("carries", "repairs", "sells", "hides", "paints", "counts", "forgets", "finds")
_WHAT = ("boat", "lantern", "letter", "wheel", "basket", "clock", "ladder", "map")
_WHERE = ("station", "river", "bridge", "market", "harbour", "garden", "mill", "tower")

DIGITS = 8


def story(rng: random.Random, length: int) -> str:
    """Sentences without digits, of about `length` characters."""
    sentences: list[str] = []
    while sum(map(len, sentences)) < length:
        who, does, what, where = map(rng.choice, (_WHO, _DOES, _WHAT, _WHERE))
        sentences.append(f"The {who} {does} a {what} near the {where}.")
    return " ".join(sentences)


def nonces(rng: random.Random, count: int) -> list[str]:
    """Different numbers of `DIGITS` digits."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[str(rng.randrange(10 ** (DIGITS - 1), 10**DIGITS))] = None
    return list(found)


def digits_in(text: str) -> str:
    """The digits of a text in their order: models put spaces, commas or hyphens into numbers."""
    return re.sub(r"\D", "", text)


def nonces_in(text: str, known: Collection[str]) -> set[str]:
    """Those of the known nonces that a text contains."""
    digits = digits_in(text)
    windows = {digits[start : start + DIGITS] for start in range(len(digits) - DIGITS + 1)}
    return windows.intersection(known)


def copying(nonce: str, filler: str, *, chat: bool, first: bool) -> str:
    """A prompt to copy a number that stands before a long text, or after it."""
    told = f"The access code is {nonce}."
    text = f"{told}\n\n{filler}" if first else f"{filler}\n\n{told}"
    if chat:
        return f"{text}\n\nRepeat the access code. Write only its {DIGITS} digits, nothing else."
    return f"{text}\n\nQuestion: What is the access code?\nAnswer: The access code is"


def numbers_shown(rng: random.Random, count: int) -> Sequence[tuple[str, Any]]:
    """Questions about images with different numbers, as the canary answers them: text and image."""
    found: dict[str, tuple[str, Any]] = {}
    while len(found) < count:
        question = ask(rng, "number")
        if len(question.answer) == 4:
            text = body(question.text, question.options)
            found[question.answer] = text, question.scenes[0].image
    return list(found.values())
