r"""What the chat tasks read from a reply, and which answers they take for equal."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from importlib.metadata import version

import pytest

from runner.config.schema import RunConfig
from runner.evidence.unparsable import INVALID
from runner.tasks import choices, mathematics, text_vqa
from runner.tasks.replies import after_reasoning, final_answer, last_number


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Hence 5.", "Hence 5."),
        ("<think>It is 4.</think>\n5", "\n5"),
        ("It is 4.</think>5", "5"),  # the template has opened the reasoning
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>It is \\boxed{4}, or", ""),  # the answer ended in the reasoning
    ],
)
def test_only_what_follows_the_reasoning_counts(reply: str, answer: str) -> None:
    assert after_reasoning(reply) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So it is $\boxed{72}$.", "72"),
        (r"\boxed{1}, no: \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\boxed{9}}", "9"),
        (r"\boxed {\left\{1, 2\right\}}", r"\left\{1, 2\right\}"),
        (r"\boxed{\{ x : x > 1 \}", None),  # the brace that is left is escaped
        (r"\fbox{7} of \boxed{}", "7"),
        (r"\boxed{1} and \boxed{2", None),  # cut off, and the first box was not the last word
        ("**Answer:** 42", "42"),
        ("The final answer is $\\frac{1}{2}$.", r"$\frac{1}{2}$"),
        (r"The answer is \(x^2\).", r"\(x^2\)"),
        ("Answer: -7. I checked.", "-7"),
        ("The answer is not obvious.", None),
        ("It is 12.", None),
        ("", None),
    ],
)
def test_a_final_answer_is_boxed_or_stated(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 - 3 = 2 apples.", "2"),
        ("We get 5-3", "3"),
        ("It falls to -12.5 degrees.", "-12.5"),
        ("a total of $1,234.50.", "1,234.50"),
        ("10,20,30", "30"),
        ("about 3/4 of it", "3/4"),
        ("x2", None),
        ("none", None),
        (r"72, so \boxed{7", None),
    ],
)
def test_a_last_number(text: str, number: str | None) -> None:
    assert last_number(text) == number


def test_a_number_without_a_box_is_read_where_no_formula_can_be_meant() -> None:
    replies = [["so 5 + 2 = 7"], ["<think>7"], [r"\boxed{6} of 7"]]
    assert mathematics.boxed(replies, None) == [[INVALID], [INVALID], ["6"]]
    assert mathematics.boxed_or_last_number(replies, None) == [["7"], [INVALID], ["6"]]


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("033", "33"),
        ("16.0", "16"),
        ("−5", "-5"),
        (".5", r"\frac{1}{2}"),
        ("1/2", "0.50"),
        (r"\dfrac12", "0.5"),
        ("1,234", "1234"),
        (r"1{,}234", "1234"),
        (r"3,\!840", "3840"),
        (r"\$1{,}250", "1250"),
        ("$18.00", "18"),
        (r"12 \text{ cm}", "12"),
        ("3 hours", "3"),
        (r"90^\circ", "90"),
        ("90°", "90"),
        (r"50\%", "50"),
        ("x = 5", "5"),
        (r"\text{ (C) }", "C"),
        ("ada", r"\text{Ada}"),
        (r"2\sqrt{3}", r"\sqrt{12}"),
        (r"(2, \pi/2)", r"\left( 2, \frac{\pi}{2} \right)"),
        (r"\{1,2\}", r"\{2,1\}"),
        ("(x+1)^2", "x^2+2x+1"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        (r"x \in [-2,7]", "[-2,7]"),
    ],
)
def test_equal_answers(given: str, right: str) -> None:
    assert mathematics.equal(given, right)


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("5", "-5"),
        ("3.33", "10/3"),
        ("33", "34"),
        ("0.5", "5"),
        ("1/0", "1"),
        ("12", "1,200"),
        ("[0,1)", "[0,1]"),
        (r"(\pi/2, 2)", r"\left( 2, \frac{\pi}{2} \right)"),
        (r"\text{even}", r"\text{odd}"),
        ("b", "C"),
        ("x", "5"),
        ("", "5"),
        (r"\frac{", "5"),
    ],
)
def test_unequal_answers(given: str, right: str) -> None:
    assert not mathematics.equal(given, right)


def test_a_comparison_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathematics, "LIMIT_S", 1)
    assert not mathematics.equal("9^{9^{9^9}}", "7")


def test_a_comparison_leaves_the_random_generator_alone() -> None:
    """A change would count as a guess of lm-eval's."""
    before = random.getstate()
    assert mathematics.equal("(x+1)^3-1", "x^3+3x^2+3x")
    assert random.getstate() == before


def test_a_comparison_works_in_a_thread_which_no_signal_reaches() -> None:
    found: list[bool] = []
    thread = threading.Thread(
        target=lambda: found.append(mathematics.equal(r"2\sqrt{3}", r"\sqrt{12}"))
    )
    thread.start()
    thread.join()
    assert found == [True]


def test_hydra_and_math_verify_share_one_antlr(compose: Callable[..., RunConfig]) -> None:
    assert version("antlr4-python3-runtime").startswith("4.9.")
    assert mathematics.equal(r"\frac{\sqrt{8}}{2}", r"\sqrt{2}")
    assert compose("model=qwen3_8b", "task=math500").task.names == ["math500_chat"]


def test_the_truth_of_a_document() -> None:
    assert mathematics.truth({"Problem": "?", "Answer": 33}) == "33"
    assert mathematics.truth({"question": "?", "answer": "2 + 2 = 4\n#### 4"}) == "4"


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("Answer: C", "C"),
        ("**Answer:** (C)", "C"),
        ("Answer: **C**", "C"),
        (r"Answer: $\text{D}$", "D"),
        (r"Answer: \boxed{B}", "B"),
        ('{"answer": "C"}', "C"),
        ("The correct answer is C.", "C"),
        ("The right choice is the letter B", "B"),
        ("The answer is option B.", "B"),
        (r"So \boxed{\textbf{(C)} 12}", "C"),
        ("Answer: B\nNo, wait.\nAnswer: D", "D"),
        (r"Answer: B, or rather \boxed{D}", "D"),
        (r"\boxed{42}, so Answer: A", "A"),
        ("It follows.\n\n(C) Mitochondrion", "C"),
        ("C.", "C"),
        ("A", "A"),
        ("The answer is A because it is.", "A"),
        ("<think>Answer: B</think>Answer: C", "C"),
        # None of the choices, or words that begin with or are a letter.
        ("Answer: E", None),
        ("Answer: Carbon", None),
        ("Answer: C's", None),
        ("The answer is A good one.", None),
        ("A cat sat on a mat.", None),
        ("I think it is obvious", None),
        ("Both B and C are right.", None),
        (r"\boxed{42}", None),
        ("<think>Answer: B", None),
        ("", None),
    ],
)
def test_a_letter(reply: str, letter: str | None) -> None:
    assert choices.letter(reply, 4) == letter


def test_the_range_of_letters_is_that_of_the_document() -> None:
    documents = [{"options": list("wxyz")}, {"options": list("qrstuvwxyz")}]
    replies = [["Answer: J", "Answer: D"], ["Answer: J"]]
    assert choices.letter_of_mmlu_pro(replies, documents) == [[INVALID, "D"], ["J"]]
    assert choices.letter_of_gpqa(replies, [{}, {}]) == [[INVALID, "D"], [INVALID]]


def test_gpqas_order_depends_on_the_text_alone() -> None:
    document = {
        "Question": "Which one?\n",
        "Correct Answer": " right ",
        "Incorrect Answer 1": "one",
        "Incorrect Answer 2": "two",
        "Incorrect Answer 3": "three",
    }
    assert choices.gpqa_choices(document) == ["one", "right", "two", "three"]
    assert choices.gpqa_answer(document) == "B"
    orders = {
        choices.gpqa_answer({**document, "Question": f"{number}?"}): number for number in range(40)
    }
    assert sorted(orders) == list("ABCD")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The STOP sign.", "stop sign"),
        ("two  dogs", "2 dogs"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("Mr. Smith", "mr smith"),
        ("dont", "don't"),
        ("it’s", "it's"),
        ("youd've", "you'd've"),
        ("coca-cola", "coca cola"),
        ("pepsi, coke", "pepsi coke"),
        ("12:30", "12:30"),
        ("a", ""),
    ],
)
def test_a_short_answer_is_normalized(text: str, normal: str) -> None:
    assert text_vqa.normalized(text) == normal


@pytest.mark.parametrize(
    ("people", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1)]
)
def test_vqa_accuracy_leaves_each_person_out_in_turn(people: int, score: float) -> None:
    document = {"answers": ["Stop."] * people + ["go"] * (10 - people)}
    assert text_vqa.score(document, ["stop"])["exact_match"] == pytest.approx(score)


def test_an_empty_reply_is_no_short_answer() -> None:
    assert text_vqa.answer([["<think>stop", " stop "]], None) == [[INVALID, "stop"]]
    assert text_vqa.score({"answers": ["invalid"] * 10}, [INVALID]) == {"exact_match": 0.0}
