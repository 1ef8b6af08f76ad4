"""An answer that lm-eval had to guess is known as one, whatever task guessed it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.tasks.mmmu import utils

from runner.evidence.samples import Sample
from runner.evidence.unparsable import unparsable
from runner.lm.guesses import watch

OPTIONS = ["blue", "yellow", "dark green", "white"]
QUESTION = {"question_type": "multiple-choice", "options": repr(OPTIONS), "answer": "A"}
READ = ["A", "(C)", "B.", "The answer is D", "'D'", "it is dark green, I do think"]
GUESSED = [
    "",
    "blue",
    "E",
    "ABC",
    "A-B",
    "**B**",
    "I",
    "...",
    "Answer: B\n",
    "Answer:\nB",
    "no idea of any kind at all",
]


@pytest.fixture(autouse=True)
def generator() -> Iterator[None]:
    before = random.getstate()
    yield
    random.setstate(before)


def scoring(process_results: Any, output_type: str = "generate_until") -> Any:
    return SimpleNamespace(OUTPUT_TYPE=output_type, process_results=process_results)


@pytest.mark.parametrize(
    ("response", "guessed"), [(r, False) for r in READ] + [(r, True) for r in GUESSED]
)
def test_mmmus_parser_is_caught_guessing(response: str, guessed: bool) -> None:
    task = scoring(utils.process_results)
    drawn = watch(task)
    scored = task.process_results(QUESTION, [response])
    assert set(scored) == {"acc"}
    assert drawn == [guessed]


def test_what_is_scored_stays_what_it_was() -> None:
    random.seed(7)
    plain = [utils.process_results(QUESTION, [response]) for response in GUESSED]
    random.seed(7)
    task = scoring(utils.process_results)
    watch(task)
    assert [task.process_results(QUESTION, [response]) for response in GUESSED] == plain


def test_a_choice_that_is_scored_is_not_watched() -> None:
    task = scoring(utils.process_results, "multiple_choice")
    assert watch(task) == []
    task.process_results(QUESTION, ["..."])
    assert task.process_results is utils.process_results


def test_what_no_filter_could_read() -> None:
    assert unparsable(Sample("t", 0, filtered="A", guessed=True))
    assert unparsable(Sample("t", 0, filtered="[invalid]"))
    assert unparsable(Sample("t", 0, filtered=" "))
    assert not unparsable(Sample("t", 0, filtered="72"))
    assert not unparsable(Sample("t", 0, filtered="(-3.1, False)", choice_logprobs=(-3.1,)))
