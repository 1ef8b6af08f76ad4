"""Read and score short answers about text in images (TextVQA)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from runner.evidence.unparsable import INVALID
from runner.tasks.replies import after_reasoning

# The rules of the VQA challenge: https://visualqa.org/evaluation.html
AGREEING = 3  # so many equal human answers make an answer fully right
ARTICLES = {"a", "an", "the"}
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBERS)}}
MARKS = ';/[]"{}()=+\\_-><@`,?!'
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's i'd've i'm i've isn't it'd it'd've it'll ma'am
mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't shan't she'd've
should've shouldn't shouldn't've somebody'd somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd
there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's
who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd
you'd've you'll you're you've
"""


def _without_apostrophes(word: str) -> set[str]:
    """The word with each apostrophe kept or left out."""
    first, *others = word.split("'")
    signs = product(("", "'"), repeat=len(others))
    return {first + "".join(map("".join, zip(each, others, strict=True))) for each in signs}


CONTRACTIONS = {
    written: word for word in _CONTRACTED.split() for written in _without_apostrophes(word)
}


def answer(replies: Sequence[Sequence[str]], documents: object) -> list[list[str]]:
    """Return each reply without its reasoning, or `[invalid]` if it is empty."""
    return [[after_reasoning(r).strip() or INVALID for r in each] for each in replies]


def usual_answer(document: Mapping[str, Any]) -> str:
    """Return the answer that most people gave."""
    return Counter(map(str, document["answers"])).most_common(1)[0][0]


def score(document: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float]:
    """Return the VQA accuracy, from 0 to 1, as `exact_match`.

    For each person, it compares the answer with those of all the others: it counts as
    min(matches / 3, 1). The score is the mean over all persons.
    """
    if answers[0] == INVALID:
        return {"exact_match": 0.0}
    given = normalized(answers[0])
    same = [normalized(str(each)) == given for each in document["answers"]]
    others = (sum(same) - own for own in same)
    return {"exact_match": sum(min(n / AGREEING, 1.0) for n in others) / len(same)}


def normalized(text: str) -> str:
    """Return the answer in lower case, without punctuation and articles, with digits for words."""
    text = re.sub(r"\s+", " ", text.replace("’", "'").lower()).strip()
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    for mark in MARKS:
        beside_space = f"{mark} " in text or f" {mark}" in text
        text = text.replace(mark, "" if beside_space else " ")
    text = re.sub(r"(?<!\d)\.|\.(?!\d)", "", text)
    words = [DIGITS.get(word, word) for word in text.split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
