"""Degenerate answers: each kind is found, honest answers are not, and too many keep a run back."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config.verdict import VerdictConfig
from runner.evidence.degenerate import (
    LONGEST_PHRASE,
    REPLACEMENT,
    SPAN,
    TURNS,
    has_replacement,
    is_empty,
    is_not_a_number,
    is_repeating,
)
from runner.evidence.samples import read_samples
from runner.lm.answer import TOO_LONG, Answer
from runner.lm.degenerate import degenerate
from runner.lm.evaluate import _degenerate
from runner.lm.sample_table import sample_table, write_samples
from runner.outcome import Degeneracy, Degenerate, MetricResult, Outcome, State, TaskOutcome
from runner.plan import Evaluation, Plan
from runner.promote import _doubts
from runner.report.run_findings import matters
from runner.rundir import RunDirectory, read_json, write_json
from runner.status import Status
from runner.verdict import Verdict, judge
from tests.baselines import exact
from tests.compared import row

PROJECT = Path(__file__).parents[2]
END = 2
# Roughly as a model's tokenizer splits text: words, single digits, runs of punctuation and spaces.
TOKEN = re.compile(r" ?[^\W\d_]+|\d| ?[^\s\w]+|_|\s*\n|\s+")


# Repetition


def a_loop(seed: int, length: int, phrase: int, begins: int) -> tuple[int, ...]:
    """Tokens at random up to `begins`, and then one phrase until there are `length`."""
    draw = random.Random(seed)
    cycle = [draw.randrange(5000) for _ in range(phrase)]
    before = [draw.randrange(5000) for _ in range(begins)]
    return tuple((before + cycle * (length // phrase + 1))[:length])


@given(
    phrase=st.integers(1, LONGEST_PHRASE),
    begins=st.integers(0, 300),
    more=st.integers(0, 300),
    ended=st.booleans(),
)
@settings(deadline=None)
def test_a_loop_is_found_whatever_precedes_it(
    phrase: int, begins: int, more: int, ended: bool
) -> None:
    length = begins + max(SPAN, TURNS * phrase) + more
    tokens = a_loop(phrase, length, phrase, begins) + (END,) * ended
    assert is_repeating(tokens, "")


@given(st.lists(st.integers(0, 2), max_size=SPAN - 1))
def test_a_short_answer_never_repeats_itself(tokens: list[int]) -> None:
    assert not is_repeating(tokens, "")


@given(st.text("ab", max_size=4 * SPAN - 1))
def test_a_short_text_never_repeats_itself(text: str) -> None:
    assert not is_repeating((), text)


@given(phrase=st.integers(1, LONGEST_PHRASE), begins=st.integers(0, 300))
@settings(deadline=None)
def test_what_goes_on_after_a_loop_is_none(phrase: int, begins: int) -> None:
    """One other token may be the end token; two are not."""
    length = begins + max(SPAN, TURNS * phrase) + 1
    assert not is_repeating((*a_loop(phrase, length, phrase, begins), 9001, 9002), "")


@pytest.mark.parametrize(
    "text",
    [
        "ha " * 20,
        "1" + "0" * 50,
        "3." + "3" * 60,
        "| a | b |\n|---|---|\n" + "".join(f"| {n} | {n * n} |\n" for n in range(60)),
        "| task | n |\n" + "| copa | 0 |\n| rte | 0 |\n| cb | 0 |\n" * 3,
        "[" + ", ".join(["0"] * 30) + "]",
        ("    [0, 0, 0],\n" * 3) + "    [0, 0, 0]\n]\n",
        ", ".join(map(str, range(2, 400, 2))),
        "x = 1\n" * 12 + "print(x)\n",
        "".join(
            f"Step {n}: add {n} to the total, which is {n * (n + 1) // 2}.\n" for n in range(60)
        ),
        "-" * 80 + "\n",
    ],
    ids=lambda text: text[:12].strip(),
)
def test_tables_code_numbers_and_laughter_are_answers(text: str) -> None:
    tokens = TOKEN.findall(text)
    assert "".join(tokens) == text
    assert not is_repeating([*tokens, "<end>"], text)


def test_honest_text_that_is_cut_anywhere_hardly_ever_repeats_itself() -> None:
    """4,000 answers cut out of this project's documentation, code and data.

    Those that are found are cut in the middle of a model's list of equal settings for its layers.
    """
    files = sorted(
        file
        for place in ("docs", "runner", "conf", "tests", "docker")
        for file in (PROJECT / place).rglob("*")
        if file.suffix in {".md", ".py", ".yaml", ".j2", ".json", ".toml"} and file.is_file()
    )
    draw = random.Random(20261)
    texts = [TOKEN.findall(file.read_text(encoding="utf-8")) for file in files]
    texts = [each for each in texts if len(each) > SPAN]
    assert len(texts) > 300
    found = 0
    for _ in range(4000):
        tokens = draw.choice(texts)
        end = draw.randint(SPAN, len(tokens))
        found += is_repeating(tokens[max(0, end - draw.randint(SPAN, 1500)) : end], "")
    assert found / 4000 < 0.005


@pytest.mark.parametrize(("length", "least"), [(256, 0.7), (512, 0.85), (1024, 0.95)])
def test_most_loops_are_found_within_the_token_limit(length: int, least: float) -> None:
    """Loops of 1 to 128 tokens that begin in the first three quarters of an answer."""
    draw = random.Random(length)
    found = [
        is_repeating(
            a_loop(
                seed, length, round(2 ** draw.uniform(0, 7)), int(draw.random() * 0.75 * length)
            ),
            "",
        )
        for seed in range(400)
    ]
    assert sum(found) / len(found) > least


def test_the_text_is_read_if_no_tokens_are_known() -> None:
    assert is_repeating((), "So it is. " + "The answer is 42. " * 20)
    assert not is_repeating((), "The answer is 42. " * 4)


# The other kinds


@pytest.mark.parametrize(
    ("text", "prompt", "cut", "found"),
    [
        ("plain", "", False, False),
        (f"a{REPLACEMENT}b", "", False, True),
        (f"a{REPLACEMENT}", "", False, True),
        (f"a{REPLACEMENT * 3}", "", True, False),
        (f"a{REPLACEMENT * 4}", "", True, True),
        (f"a{REPLACEMENT}b", f"Repeat: {REPLACEMENT}", False, False),
    ],
)
def test_replacement_characters(text: str, prompt: str, cut: bool, found: bool) -> None:
    assert has_replacement(text, prompt, cut) is found


@pytest.mark.parametrize(
    ("text", "written", "stops", "found"),
    [
        ("", "", ["\n\n"], True),
        (" \n", " \n", ["\n\n"], True),
        ("", "\n\n", ["\n\n"], False),  # it began with the stop text
        ("", "Question:", ["Question:"], False),
        ("", "<think>well</think>\n\n", [], False),  # its reasoning was taken out
        ("B", "B", [], False),
        ("", "", [""], True),
    ],
)
def test_empty_answers(text: str, written: str, stops: list[str], found: bool) -> None:
    assert is_empty(text, written, stops) is found


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@given(st.lists(st.floats(-1e4, 0), max_size=30), st.integers(0, 30))
def test_one_odd_number_is_enough(odd: float, logprobs: list[float], place: int) -> None:
    assert not is_not_a_number(logprobs)
    logprobs.insert(place, odd)
    assert is_not_a_number(logprobs)


# The answers to a request

PLAIN = Answer(9, (5, END), (-0.1, -0.2), (1.0, 1.0), "stop", text="B")
LOOP = (7, 8) * SPAN


def found(answer: Answer, kind: str = "generate_until", spelled: str = "") -> list[Degeneracy]:
    arguments = ("Why?", {"until": ["\n\n"]} if kind == "generate_until" else "B")
    request: Any = SimpleNamespace(request_type=kind, args=arguments, resps=[])
    lm: Any = SimpleNamespace(
        tokenizer=SimpleNamespace(decode=lambda ids, skip_special_tokens: spelled),
    )
    return degenerate(lm, request, [answer, PLAIN])


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({}, None),
        ({"logprobs": (-0.1, math.nan)}, Degeneracy.NOT_A_NUMBER),
        ({"logprobs": (-0.1, -math.inf), "token_ids": LOOP}, Degeneracy.NOT_A_NUMBER),
        ({"token_ids": LOOP, "text": "!" * 64}, Degeneracy.REPEATING),
        ({"token_ids": LOOP, "text": ""}, Degeneracy.REPEATING),
        ({"text": REPLACEMENT}, Degeneracy.REPLACEMENT),
        ({"text": REPLACEMENT, "finish_reason": "length"}, None),
        ({"text": " "}, Degeneracy.EMPTY),
        ({"text": "", "token_ids": (), "finish_reason": TOO_LONG}, None),
        # A server took the reasoning out, and does not tell the tokens.
        ({"text": "", "token_ids": (), "reasoning": "Wait, no. " * 40}, Degeneracy.REPEATING),
        ({"text": "", "token_ids": (), "reasoning": "Hm."}, None),
        ({"text": "B", "reasoning": f"a{REPLACEMENT}b"}, Degeneracy.REPLACEMENT),
    ],
)
def test_an_answer_is_degenerate_in_one_way(
    changed: dict[str, Any], kind: Degeneracy | None
) -> None:
    assert found(replace(PLAIN, **changed)) == ([kind] if kind else [])


def test_a_stop_text_that_comes_first_leaves_an_empty_answer() -> None:
    assert found(replace(PLAIN, text=""), spelled="\n\n") == []


def test_of_a_scored_text_only_its_numbers_count() -> None:
    scored = replace(PLAIN, text="", token_ids=LOOP, logprobs=(), scored=-3.5)
    assert found(scored, "loglikelihood") == []
    for odd in (math.nan, -math.inf):
        assert found(replace(scored, scored=odd), "loglikelihood") == [Degeneracy.NOT_A_NUMBER]
    refused = replace(scored, scored=None, finish_reason=TOO_LONG)
    assert found(refused, "loglikelihood") == []


@pytest.mark.parametrize(("score", "kinds"), [(-9.5, []), (math.nan, [Degeneracy.NOT_A_NUMBER])])
def test_a_rolling_score_has_no_answer_of_its_own(score: float, kinds: list[Degeneracy]) -> None:
    request: Any = SimpleNamespace(request_type="loglikelihood_rolling", resps=[score])
    assert degenerate(SimpleNamespace(), request, []) == kinds  # type: ignore[arg-type]


# Counting


def test_answers_are_counted_by_kind_with_their_first_sample(tmp_path: Path) -> None:
    rows = [
        row(0),
        row(1, degenerate=["empty"]),
        row(2, degenerate=["repeating", "repeating", "empty"]),
    ]
    assert _degenerate(rows) == (
        Degenerate(Degeneracy.REPEATING, 2, "mini_colour", 1),
        Degenerate(Degeneracy.EMPTY, 2, "mini_shape", 0),
    )
    write_samples(tmp_path / "samples.parquet", [sample_table(rows)])
    read = read_samples(tmp_path / "samples.parquet")
    assert [list(each.degenerate) for each in read] == [each.degenerate for each in rows]


def test_an_outcome_is_read_back_and_an_older_one_has_no_counts(tmp_path: Path) -> None:
    outcome = of(repeating=3)
    file = tmp_path / "outcome.json"
    write_json(file, outcome)
    assert read_json(file, Outcome) == outcome
    text = file.read_text(encoding="utf-8")
    older = re.sub(r'"degenerate": \[.*?\]', '"seconds": 0.0', text, flags=re.DOTALL)
    assert "repeating" in text and "repeating" not in older
    file.write_text(older, encoding="utf-8")
    assert read_json(file, Outcome).tasks[0].degenerate == ()


# The verdict

ASKED = Evaluation("t", None, True, True, None, "auto", exact({"acc": {"none": 0.9}}))
KINDS = {kind.name.lower(): kind for kind in Degeneracy}


def of(value: float = 0.9, answers: int = 600, **counts: int) -> Outcome:
    metric = MetricResult("t", "acc", "none", value, 0.01, answers, True, True)
    faults = tuple(Degenerate(KINDS[name], n, "t_art", 17) for name, n in counts.items())
    task = TaskOutcome("t", (metric,), answers, answers, answers=answers, degenerate=faults)
    return Outcome(State.COMPLETED, tasks=(task,))


def judged(outcome: Outcome, **changed: Any) -> Verdict:
    return judge(outcome, (ASKED,), VerdictConfig(**changed))


@pytest.mark.parametrize(
    ("counts", "answers", "status"),
    [
        ({}, 600, Status.PASSED),
        ({"repeating": 6}, 600, Status.PASSED),
        ({"repeating": 7}, 600, Status.INCONCLUSIVE),
        ({"repeating": 3, "replacement": 2, "empty": 2}, 600, Status.INCONCLUSIVE),
        ({"empty": 1}, 20, Status.PASSED),
        ({"empty": 2}, 20, Status.INCONCLUSIVE),
        ({"not_a_number": 1}, 600, Status.INCONCLUSIVE),
    ],
)
def test_more_than_1_percent_of_the_answers_or_any_odd_number_keeps_a_run_from_passing(
    counts: dict[str, int], answers: int, status: Status
) -> None:
    assert judged(of(answers=answers, **counts)).status is status


def test_the_reason_has_numbers_an_example_and_what_to_do() -> None:
    assert judged(of(repeating=8, empty=4)).reason == (
        "t acc,none: 12 of 600 answers are degenerate (2.0 %): 8 repeat the same tokens to the end "
        "(for example document 17 of t_art), 4 are empty (for example document 17 of t_art); if "
        "the model itself gives such answers, set verdict.allow_degenerate=true"
    )
    assert judged(of(not_a_number=2)).reason == (
        "t acc,none: 2 answers have a log-probability that is NaN or infinite (for example "
        "document 17 of t_art)"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_stays_one(kind: str) -> None:
    verdict = judged(of(0.5, **{kind: 300}))
    assert verdict.status is Status.FAILED
    assert "document 17 of t_art" in verdict.reason and "allow_degenerate" not in verdict.reason


def test_a_model_that_gives_such_answers_can_be_let_through_but_never_with_odd_numbers() -> None:
    verdict = judged(of(repeating=60), allow_degenerate=True)
    assert verdict.status is Status.PASSED
    assert verdict.rule.endswith(", verdict.allow_degenerate=true")
    odd = judged(of(not_a_number=1), allow_degenerate=True)
    assert odd.status is Status.INCONCLUSIVE


def test_a_run_without_a_baseline_says_so_too() -> None:
    verdict = judge(of(repeating=60), (replace(ASKED, baselines={}),), VerdictConfig())
    assert verdict.status is Status.UNJUDGED
    assert "60 of 600 answers are degenerate (10.0 %)" in verdict.reason


# The report


def test_the_report_names_kind_number_share_and_an_example() -> None:
    assert matters(of(not_a_number=1, replacement=12)) == [
        "t: 1 (0.2 %) answers have a log-probability that is NaN or infinite; see document 17 of "
        "t_art.",
        "t: 12 (2.0 %) answers contain the replacement character U+FFFD; see document 17 of t_art.",
    ]


# Promotion


@pytest.mark.parametrize(
    ("counts", "allowed", "doubts"),
    [
        ({"empty": 6}, False, 0),
        ({"empty": 60}, False, 1),
        ({"empty": 60}, True, 0),
        ({"empty": 60, "not_a_number": 1}, True, 2),
    ],
)
def test_a_run_that_such_answers_kept_from_passing_is_promoted_by_force_only(
    tmp_path: Path, plan: Plan, counts: dict[str, int], allowed: bool, doubts: int
) -> None:
    files = RunDirectory(tmp_path)
    outcome = of(**counts)
    write_json(files.plan, plan)
    write_json(files.outcome, outcome)
    write_json(files.verdict, judged(outcome, allow_degenerate=allowed))
    assert len(_doubts(files)) == doubts
