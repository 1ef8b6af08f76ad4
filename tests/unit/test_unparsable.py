"""What lm-eval could not read is told as lm-eval tells it: by its own parser."""

from __future__ import annotations

import pytest

from runner.samples import Sample
from runner.unparsable import MMMU_CHOICE, unparsable

OPTIONS = {"A": "blue", "B": "yellow", "C": "dark green", "D": "white"}
PROMPT = (
    "user\n What colour is the shape?\n\n"
    + "\n".join(f"({letter}) {text}" for letter, text in OPTIONS.items())
    + f"\n\n{MMMU_CHOICE}\nassistant\n"
)
RESPONSES = [
    "A",
    "(C)",
    "B.",
    "The answer is D",
    "'D'",
    "blue",
    "The colour of the shape is dark green, I think",
    "The shape has no colour that I could possibly name here",
    "E",
    "ABC",
    "A-B",
    "**B**",
    "Answer: B\n",
    "Answer:\nB",
    "I",
    "...",
]


def sample(response: str, prompt: str = PROMPT, **other: object) -> Sample:
    found = {"responses": (response,), "filtered": response, **other}
    return Sample("mmmu_val", 0, prompt=prompt, target="A", **found)  # type: ignore[arg-type]


@pytest.mark.parametrize("response", RESPONSES)
def test_a_guess_is_what_lm_evals_parser_draws_at_random(
    response: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks.mmmu import utils

    drawn: list[object] = []
    monkeypatch.setattr(utils.random, "choice", lambda choices: drawn.append(choices) or "A")
    utils.parse_multi_choice_response(response, list(OPTIONS), OPTIONS)
    assert unparsable(sample(response)) is bool(drawn)


def test_the_marker_is_in_lm_evals_own_prompt() -> None:
    from lm_eval.tasks.mmmu import utils

    assert MMMU_CHOICE in utils.MULTI_CHOICE_EXAMPLE_FORMAT


def test_filters_that_found_nothing() -> None:
    assert unparsable(sample("I don't know", "plain", filtered="[invalid]"))
    assert unparsable(sample(" ", "plain"))
    assert not unparsable(sample("72", "plain"))
    assert not unparsable(sample("(-3.1, False)", "plain", filtered="", choice_logprobs=(-3.1,)))
