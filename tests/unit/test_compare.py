"""python -m runner.compare on runs without an engine: its word, its files, its exit status."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from runner.compare.__main__ import main
from runner.environment import Environment
from runner.lm.images import image_hash
from runner.lm.sample_table import SampleRow
from runner.outcome import Outcome, State
from runner.plan import Evaluation
from runner.rundir import read_json, write_json
from runner.served import Served
from runner.sweep.record import PointRecord, SweepRecord, write
from tests.compared import TASK, row, rows, write_run
from tests.html import Page


def compared(tmp_path: Path, *more: str) -> tuple[int, Path]:
    output = tmp_path / "page"
    status = main([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(output), *more])
    return status, output


def said(output: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((output / "compare.json").read_text())
    return found


# The word


def test_a_worse_run_ends_with_3_and_says_by_how_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(wrong=10, n=200))
    write_run(tmp_path / "b", rows(wrong=40, n=200))
    status, output = compared(tmp_path)
    printed = capsys.readouterr().out
    assert status == 3
    assert "FAILED: B is worse than A by 15.0 points (95 % " in printed
    assert "Of 200 shared questions, 30 got worse and 0 better" in printed
    assert f"report: {output}/compare.html" in printed
    for name in ("compare.html", "compare.md", "compare.json"):
        assert (output / name).is_file()
    assert "B is worse than A by 15.0 points" in (output / "compare.md").read_text()
    assert said(output)["flips"] == 30


def test_prompts_that_a_server_rendered_otherwise_or_unseen_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, rows(wrong=10, n=200))
    served = Served("1", "m", None, "", 200, 200, unverified=200, answered_by={"m 1": 200})
    for name, changed in (("a", {}), ("b", {"different": 3, "first_difference": "1 token"})):
        file = tmp_path / name / "outcome.json"
        outcome: Outcome = read_json(file, Outcome)
        write_json(file, replace(outcome, served=replace(served, **changed)))
    _, output = compared(tmp_path)
    page = (output / "compare.md").read_text()
    unseen = "the server does not say how it rendered 200 prompts"
    assert f"Run A: {unseen}" in page
    assert f"Run B: the server rendered 3 of 200 prompts differently (1 token); {unseen}" in page


def test_the_same_answers_end_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", rows(wrong=10, n=400))
    write_run(tmp_path / "b", rows(wrong=10, n=400))
    status, output = compared(tmp_path)
    assert status == 0
    assert "PASSED: B gave the same 400 answers as A." in capsys.readouterr().out
    report = (output / "compare.md").read_text()
    assert "No recorded setting, version or fingerprint differs" in report


def test_what_questions_cannot_tell_ends_with_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(wrong=2, n=40))
    write_run(tmp_path / "b", rows(wrong=4, n=40))
    assert compared(tmp_path)[0] == 4
    printed = capsys.readouterr().out
    assert "INCONCLUSIVE: Cannot tell whether B is worse than A" in printed
    assert "points (80 % power)." in printed


def test_the_margin_is_the_users(tmp_path: Path) -> None:
    write_run(tmp_path / "a", rows(wrong=2, n=40))
    write_run(tmp_path / "b", rows(wrong=4, n=40))
    assert compared(tmp_path, "--margin", "0.5")[0] == 0


def test_a_sure_drop_under_the_margin_is_told_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(wrong=0, n=400))
    write_run(tmp_path / "b", rows(wrong=20, n=400))
    assert compared(tmp_path, "--margin", "0.1")[0] == 0
    printed = capsys.readouterr().out
    assert re.search(
        r"PASSED: B is worse than A by 5\.0 points, but within the margin of 10\.0 points: a drop "
        r"of more than [5-9]\.\d points is ruled out \(95 %, one-sided\)\.",
        printed,
    ), printed


def test_the_metric_that_failed_is_the_one_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scored(wrong: int) -> list[SampleRow]:
        return [row(n, scores={"acc": 1.0, "f1": float(n >= wrong)}) for n in range(200)]

    write_run(tmp_path / "a", scored(10))
    write_run(tmp_path / "b", scored(40))
    assert compared(tmp_path)[0] == 3
    assert "FAILED: B is worse than A in mini f1 by 15.0 points" in capsys.readouterr().out


def test_lower_is_better_turns_the_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", rows(wrong=10, n=200), higher_is_better=False)
    write_run(tmp_path / "b", rows(wrong=40, n=200), higher_is_better=False)
    assert compared(tmp_path)[0] == 0
    assert "it is better by 15.0 points (95 % " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (rows(0, 100), rows(0, 80), "only in A 20"),
        (rows(0, 80), rows(0, 100), "only in B 20"),
        (
            rows(0, 100),
            [replace(each, prompt="System\n", prompt_hash="s") for each in rows(0, 100)],
            "no questions could be paired (prompt differs 100)",
        ),
        (
            [replace(each, image_hashes=["i"]) for each in rows(0, 100)],
            [replace(each, image_hashes=["j"], doc_hash="j") for each in rows(0, 100)],
            "no questions could be paired (images differ 100)",
        ),
    ],
)
def test_what_was_not_asked_alike_is_no_evidence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    first: list[SampleRow],
    second: list[SampleRow],
    reason: str,
) -> None:
    write_run(tmp_path / "a", first)
    write_run(tmp_path / "b", second, expected=100)
    assert compared(tmp_path)[0] == 4
    assert reason in capsys.readouterr().out


def test_a_run_that_broke_proves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(0))
    write_run(tmp_path / "b", rows(0), state=State.ERROR)
    assert compared(tmp_path)[0] == 4
    assert "B ended with ERROR: it broke" in capsys.readouterr().out


def test_two_empty_runs_prove_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", [])
    write_run(tmp_path / "b", [])
    assert compared(tmp_path)[0] == 4
    assert "Cannot tell whether B is worse than A" in capsys.readouterr().out


def test_what_the_numbers_leave_open_is_said_in_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(wrong=10, n=200))
    write_run(tmp_path / "b", [*rows(4, 10), *rows(5, 190, start=10)])
    assert compared(tmp_path)[0] == 4
    printed = capsys.readouterr().out
    assert re.search(
        r"the difference is \+0.5 points, and a drop of up to .* points is not ruled out \(95 %, "
        r"one-sided\); without a drop, about [\d,]+ questions are needed to pass; with a drop of "
        r"twice the margin, about [\d,]+ questions are needed to fail\.",
        printed,
    ), printed


# The explanations


def test_subjects_that_broke_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    healthy = rows(0, 200)
    broken = [row(place, "B" if place % 2 and place < 120 else "A") for place in range(200)]
    write_run(tmp_path / "a", healthy)
    write_run(tmp_path / "b", broken)
    compared(tmp_path)
    found = "Significantly worse in mini_shape (−60.0); no significant drop in 1 of 2 subjects"
    assert found in capsys.readouterr().out


def test_near_ties_are_named_as_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tied = {"margins": [0.1, 9.0]}
    write_run(tmp_path / "a", [row(place, **tied) for place in range(100)])
    turned = [row(place, "B" if place < 3 else "A", **tied) for place in range(100)]
    write_run(tmp_path / "b", turned)
    _, output = compared(tmp_path)
    assert "near-tie 3 (noise)" in capsys.readouterr().out
    (kind,) = said(output)["kinds"]  # type: ignore[misc]
    assert kind == {"kind": "near-tie", "n": 3, "better": 0, "worse": 3}  # type: ignore[comparison-overlap]


def test_another_number_of_prompt_tokens_is_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {"image_hashes": ["i"], "image_sizes": ["8x8"]}
    write_run(tmp_path / "a", [row(place, **shown) for place in range(100)])
    resized = [row(place, prompt_tokens=[16], **shown) for place in range(100)]
    write_run(tmp_path / "b", resized)
    _, output = compared(tmp_path)
    assert "In 100 of 100 pairs, the same text and pixels produced" in capsys.readouterr().out
    assert said(output)["numerics"]["tokens"] is None  # type: ignore[index]


def test_log_probabilities_say_of_how_many_pairs_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(0))
    other = [
        row(n, "B" if n >= 30 else "A", prompt_tokens=[20 - 4 * (n >= 30)]) for n in range(100)
    ]
    write_run(tmp_path / "b", other)
    _, output = compared(tmp_path)
    printed = capsys.readouterr().out
    assert "are identical (60 values from 30 of 100 pairs)" in printed
    assert "In 70 of 100 pairs, the same text and pixels produced a different number" in printed
    assert ">30 of 100</td>" in (output / "compare.html").read_text()
    assert "for the generated tokens of 30 of 100 pairs." in (output / "compare.md").read_text()


def test_nothing_is_the_same_to_the_last_digit_where_nothing_was_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = {"token_ids": [], "logprobs": [], "margins": []}
    write_run(tmp_path / "a", [row(n, **bare) for n in range(20)])
    write_run(tmp_path / "b", [row(n, **bare) for n in range(20)])
    compared(tmp_path)
    assert "No log-probabilities could be compared." in capsys.readouterr().out


def test_values_that_are_not_finite_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A NaN is no agreement."""
    write_run(tmp_path / "a", rows(0))
    broken = [row(n, logprobs=[-0.125, float("nan") if n < 2 else -0.125]) for n in range(100)]
    write_run(tmp_path / "b", broken)
    compared(tmp_path)
    printed = capsys.readouterr().out
    assert "(198 values from all 100 pairs); 2 are NaN, or infinite in one run only" in printed


@pytest.mark.parametrize("tokens", [[4, 2], []])
def test_differences_of_choices_are_per_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tokens: list[int]
) -> None:
    """0.02 nats over 4 tokens and 0.01 over 2."""
    first, second = ({"choice_logprobs": each, "choice_tokens": tokens, "token_ids": [],
                      "logprobs": [], "margins": []}
                     for each in ([-1.0, -3.0], [-1.02, -3.01]))  # fmt: skip
    write_run(tmp_path / "a", [row(n, **first) for n in range(50)])
    write_run(tmp_path / "b", [row(n, **second) for n in range(50)])
    compared(tmp_path)
    printed = " ".join(capsys.readouterr().out.split())
    if tokens:
        assert "scored choices differ by 0.005 nats per token (median)" in printed
    else:
        assert "scored choices differ by 0.015 nats (median)" in printed


def test_choices_after_other_prompt_tokens_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choices = {"choice_logprobs": [-1.0, -3.0]}
    write_run(tmp_path / "a", [row(n, **choices) for n in range(50)])
    moved = {"choice_logprobs": [-2.0, -3.0]}
    second = [row(n, prompt_tokens=[21, 21], **moved) for n in range(40)]
    second += [row(n, **choices) for n in range(40, 50)]
    write_run(tmp_path / "b", second)
    _, output = compared(tmp_path)
    assert "are identical (20 values from 10 of 50 pairs)" in capsys.readouterr().out
    found = said(output)["numerics"]
    assert (found["choices"]["n"], found["other_tokens"]) == (20, 40)  # type: ignore[index]


@pytest.mark.parametrize("limited", ["a", "b"])
def test_a_limited_run_is_compared_on_the_questions_of_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limited: str
) -> None:
    """Whichever side is the limited one; the rest of the other side does not count."""
    asked = (Evaluation(TASK, None, True, True, 100.0, "auto", {}),)
    whole = [*rows(30, 100), *rows(200, 200, start=100)]
    if limited == "a":
        write_run(tmp_path / "a", rows(0, 100), evaluations=asked)
        write_run(tmp_path / "b", whole)
    else:
        write_run(tmp_path / "a", [*rows(0, 100), *rows(200, 200, start=100)])
        write_run(tmp_path / "b", rows(30, 100), evaluations=asked)
    status, output = compared(tmp_path)
    assert status == 3
    printed = capsys.readouterr().out
    assert re.search(
        r"B is worse than A by 30\.0 points \(.*\) on the 100 shared questions\.",
        printed,
    )
    other = "B" if limited == "a" else "A"
    assert f"Not paired: only in {other} 200 ({limited.upper()} ran with limit 100)" in printed
    (judged,) = [m for m in said(output)["ruling"]["metrics"] if m["rule"]]  # type: ignore[index]
    assert (judged["value"], judged["baseline"], judged["n"]) == (0.7, 1.0, 100)


@pytest.mark.parametrize(("first", "second"), [(100, 50), (50, 100)])
def test_two_limited_runs_are_compared_on_the_questions_of_both(
    tmp_path: Path, first: int, second: int
) -> None:
    for name, limit, wrong in (("a", first, 0), ("b", second, 30)):
        asked = (Evaluation(TASK, None, True, True, float(limit), "auto", {}),)
        write_run(tmp_path / name, rows(wrong, limit), evaluations=asked)
    assert compared(tmp_path)[0] == 3


def test_questions_that_a_limit_does_not_explain_are_missed(tmp_path: Path) -> None:
    asked = (Evaluation(TASK, None, True, True, 100.0, "auto", {}),)
    write_run(tmp_path / "a", rows(0, 100), evaluations=asked)
    write_run(tmp_path / "b", rows(0, 80))
    assert compared(tmp_path)[0] == 4


def test_only_settings_that_differ_are_told(tmp_path: Path, environment: Environment) -> None:
    write_run(
        tmp_path / "a",
        rows(0),
        config="parallelism: {tp: 1}\noutput_dir: /a\ntask: {seed: 1}\n",
        environment=environment,
    )
    write_run(
        tmp_path / "b",
        rows(0),
        config="parallelism: {tp: 2}\noutput_dir: /b\ntask: {seed: 1}\nlang: zh\n",
        environment=replace(environment, packages={**environment.packages, "torch": "2.9.0"}),
    )
    _, output = compared(tmp_path)
    settings = said(output)["settings"]
    assert settings["configuration"] == [  # type: ignore[index]
        {"key": "parallelism.tp", "first": "1", "second": "2"}
    ]
    assert settings["environment"] == [  # type: ignore[index]
        {"key": "package torch", "first": "2.10.0", "second": "2.9.0"}
    ]


def test_other_content_behind_equal_settings_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(0))
    write_run(tmp_path / "b", rows(0), engine_fingerprint="another")
    compared(tmp_path)
    assert "No setting differs, but the engine fingerprint does" in capsys.readouterr().out


def test_numbers_beneath_equal_answers_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(0))
    write_run(tmp_path / "b", [replace(each, logprobs=[-0.625, -0.125]) for each in rows(0)])
    status, output = compared(tmp_path, "--margin", "0.05")
    assert status == 0
    assert "Token log-probabilities differ by 0.25 nats (median)" in capsys.readouterr().out
    found = said(output)["numerics"]
    spread = {"n": 200, "median": 0.25, "p99": 0.5, "worst": 0.5, "pairs": 100, "lost": 0}
    assert found["tokens"] == spread  # type: ignore[index]
    assert [each["spread"]["median"] for each in found["positions"]] == [0.5, 0.0]  # type: ignore[index]


def test_scored_choices_are_told_by_their_log_likelihoods(tmp_path: Path) -> None:
    def choosing(*choices: float) -> list[SampleRow]:
        best = float(choices[0] == max(choices))
        scored = {"choice_logprobs": list(choices), "scores": {"acc": best}}
        return [row(place, **scored) for place in range(50)]

    write_run(tmp_path / "a", choosing(-1.0, -3.0))
    write_run(tmp_path / "b", choosing(-2.5, -2.0))
    status, output = compared(tmp_path)
    assert status == 3
    found = said(output)
    assert found["numerics"]["choices"]["worst"] == 1.5  # type: ignore[index]
    assert found["numerics"]["tokens"] is None  # type: ignore[index]
    assert found["changes"][0]["first"] == "choice 0 (-1.000)"  # type: ignore[index]
    text = (output / "compare.html").read_text()
    assert "-1.000 ◂" in text and "lead of the best choice: A 2.00, B 0.50 nats" in text
    assert "choice 1 (-2.000)" in (output / "compare.md").read_text()


def test_a_choice_keeps_its_number_if_another_was_too_long_to_be_scored(tmp_path: Path) -> None:
    def scored(*values: float) -> dict[str, object]:
        finite = [value for value in values if math.isfinite(value)]
        return {
            "choice_logprobs": finite,
            "responses": [f"({value}, False)" for value in values],
            "finish_reasons": ["length"] * len(values),
        }

    first = scored(-math.inf, -3.0, -1.0)
    second = scored(-4.0, -1.5, -2.0)
    write_run(tmp_path / "a", [row(n, **first) for n in range(20)])
    write_run(tmp_path / "b", [row(n, "B", **second, scores={"acc": 0.0}) for n in range(20)])
    _, output = compared(tmp_path)
    card = (output / "compare.html").read_text().partition('<details class="flip')[2]
    table = re.findall(
        r'<tr><th scope="row">(.*?)</th><td class="n">(.*?)</td><td class="n">(.*?)</td>', card
    )
    assert table[:3] == [
        ("0", "", "-4.000"),
        ("1", "-3.000", "<strong>-1.500 ◂</strong>"),
        ("2", "<strong>-1.000 ◂</strong>", "-2.000"),
    ]
    assert said(output)["changes"][0]["first"] == "choice 2 (-1.000)"  # type: ignore[index]


def test_choices_without_known_numbers_have_none(tmp_path: Path) -> None:
    """An answer of an older version does not tell which choice is missing."""
    scored = {"choice_logprobs": [-1.0, -3.0], "finish_reasons": ["length"] * 3}
    write_run(tmp_path / "a", [row(n, **scored) for n in range(20)])
    other = {**scored, "choice_logprobs": [-3.0, -1.0], "scores": {"acc": 0.0}}
    write_run(tmp_path / "b", [row(n, "B", **other) for n in range(20)])
    _, output = compared(tmp_path)
    card = (output / "compare.html").read_text().partition('<details class="flip')[2]
    assert card.partition("</table>")[0].count('<tr><th scope="row">?</th>') == 2
    assert said(output)["changes"][0]["first"] == "choice unknown (-1.000)"  # type: ignore[index]


# The page


HOSTILE = (
    "</pre><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "```\n# heading | pipe\n[link](javascript:alert(1))",
    "مرحبا \u202e gnp.exe",
    "nul \x00 escape \x1b[31m",
    "長い答え" * 25_000,
)


def test_a_strangers_text_stays_text(tmp_path: Path) -> None:
    write_run(tmp_path / "a", rows(0, len(HOSTILE)))
    answers = [
        row(place, text, prompt=f"{text} {place}"[:300]) for place, text in enumerate(HOSTILE)
    ]
    asked = [row(place, prompt=each.prompt) for place, each in enumerate(answers)]
    write_run(tmp_path / "c", asked)
    write_run(tmp_path / "b", answers)
    output = tmp_path / "page"
    assert main([str(tmp_path / "c"), str(tmp_path / "b"), "--output", str(output)]) == 3
    text = (output / "compare.html").read_text()
    page = Page(text)
    # The browser's two blocks and our own script.
    assert page.open == [] and page.tags.count("script") == 3
    assert all(each.startswith("#") for each in page.loads)
    shown = "".join(page.text)
    assert "</pre><script>alert(1)</script>" in shown
    assert "{{ 7 * 7 }} {% raw %}" in shown
    assert "⟨U+202E⟩ gnp.exe" in shown and "\u202e" not in text
    assert "nul ␀ escape ␛[31m" in shown and "\x00" not in text
    assert "characters omitted" in shown and len(text) < 100_000
    markdown = (output / "compare.md").read_text()
    assert "<script>" not in markdown and "\x00" not in markdown
    assert len(markdown) < 20_000


def test_images_are_in_the_page(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (40 + place, 30), "red") for place in range(4)]
    shown = [[image_hash(picture)] for picture in pictures]
    first = [row(place, image_hashes=shown[place]) for place in range(4)]
    second = [row(place, "B", image_hashes=shown[place]) for place in range(4)]
    write_run(tmp_path / "a", first, images=pictures[:3])
    write_run(tmp_path / "b", second, images=pictures[:1])
    _, output = compared(tmp_path)
    text = (output / "compare.html").read_text()
    loads = [each for each in Page(text).loads if not each.startswith("#")]
    assert len(loads) == 3
    assert all(each.startswith("data:image/jpeg;base64,") for each in loads)
    assert "40×30" in text and f"{shown[3][0][:12]}, not kept" in text


def test_the_most_telling_flips_come_first_and_near_ties_last(tmp_path: Path) -> None:
    leads = {0: 1.0, 2: 7.0, 4: 0.1, 6: 3.0}
    write_run(tmp_path / "a", [row(n, margins=[leads.get(n, 5.0), 9.0]) for n in range(20)])
    answers = [
        row(n, "B" if n in leads else "A", margins=[leads.get(n, 5.0), 9.0]) for n in range(20)
    ]
    write_run(tmp_path / "b", answers)
    _, output = compared(tmp_path)
    shown = said(output)["shown"]
    assert [each["doc_id"] for each in shown] == [1, 3, 0, 2]  # type: ignore[attr-defined]


def test_every_subject_has_its_place_among_many_flips(tmp_path: Path) -> None:
    """One subject that broke whole must not hide that another broke a little."""
    write_run(tmp_path / "a", rows(0, 400))
    loud = {"margins": [20.0, 9.0]}
    second = [
        row(n, "B", **loud) if n % 2 == 0 else row(n, "B" if n < 20 else "A") for n in range(400)
    ]
    write_run(tmp_path / "b", second)
    _, output = compared(tmp_path)
    found = said(output)
    shown = [each["task"] for each in found["shown"]]  # type: ignore[attr-defined]
    assert found["flips"] == 210 and len(shown) == 60
    assert shown.count("mini_shape") == 10
    # The page has them all, folded; the sixty that say most come first.
    text = (output / "compare.html").read_text()
    assert text.count('<details class="flip ') == 210
    assert "210 of 400 pairs have different scores" in text


def test_filters_leave_the_cards_that_they_name(tmp_path: Path) -> None:
    """Also without scripts: a rule an option, and each option counts its cards."""
    write_run(tmp_path / "a", [row(n, "B" if n == 1 else "A") for n in range(20)])
    tied = {"margins": [0.1, 9.0]}
    second = [row(n, "B" if n in (2, 4, 5) else "A", **(tied if n == 4 else {})) for n in range(20)]
    write_run(tmp_path / "b", second)
    _, output = compared(tmp_path)
    text = (output / "compare.html").read_text()
    cards = re.findall(r'<details class="flip ([^"]*)"', text)
    for label, n in (("B is worse", 3), ("B is better", 1), ("mini_colour", 2), ("mini_shape", 2)):
        (mark,) = re.findall(rf'<option value="(\w+)">{label} \({n}\)</option>', text)
        assert sum(mark in card.split() for card in cards) == n
        assert f'option[value="{mark}"]:checked) .flip:not(.{mark})' in text


def test_the_contents_lead_somewhere(tmp_path: Path) -> None:
    write_run(tmp_path / "a", rows(0))
    write_run(tmp_path / "b", rows(30), config="parallelism: {tp: 2}\n")
    _, output = compared(tmp_path)
    page = Page((output / "compare.html").read_text())
    targets = {each[1:] for each in page.loads if each.startswith("#")}
    assert targets == {"scores", "kinds", "numerics", "settings", "flips", "samples", "reading"}
    assert targets <= set(page.ids)


def test_an_image_on_many_cards_takes_its_room_each_time(tmp_path: Path) -> None:
    picture = Image.effect_noise((400, 400), 90).convert("RGB")
    shown = {"image_hashes": [image_hash(picture)]}
    write_run(tmp_path / "a", [row(n, **shown) for n in range(900)], images=[picture])
    write_run(tmp_path / "b", [row(n, "B", **shown) for n in range(900)], images=[picture])
    _, output = compared(tmp_path)
    assert (output / "compare.html").stat().st_size < 12_000_000


# Scale


def test_many_samples_with_long_answers_take_seconds_and_little_room(tmp_path: Path) -> None:
    n, length = 600, 100
    long = {"token_ids": list(range(length)), "logprobs": [-0.5] * length}
    long["margins"] = [2.0] * length
    text = "word " * 2000
    write_run(tmp_path / "a", [row(place, **long) for place in range(n)])
    other = {**long, "token_ids": [*range(length - 1), -1], "responses": [text]}
    write_run(
        tmp_path / "b",
        [row(place, "B" if place % 5 == 0 else "A", **other) for place in range(n)],
    )
    start = time.process_time()
    status, output = compared(tmp_path)
    assert status == 3
    assert time.process_time() - start < 10
    assert (output / "compare.html").stat().st_size < 500_000
    assert (output / "compare.json").stat().st_size < 1_000_000


# A sweep


def test_each_point_of_a_sweep_is_held_against_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(10, 400))
    sweep = tmp_path / "sweep"
    points = [
        PointRecord(number, (f"parallelism.tp={tp}",), status)
        for number, (tp, status) in enumerate((("1", 0), ("2", 0), ("4", 2)))
    ]
    sweep.mkdir()
    write(sweep, SweepRecord("day/time", "python -m runner --multirun", tuple(points)))
    write_run(sweep / "0", rows(10, 400))
    write_run(sweep / "1", rows(60, 400))
    output = tmp_path / "page"
    for arguments in ([str(tmp_path / "a"), str(sweep)], [str(sweep), str(tmp_path / "a")]):
        assert main([*arguments, "--output", str(output)]) == 3
        printed = capsys.readouterr().out
        assert "tp=1: B gave the same 400 answers as A." in printed
        assert "tp=2: B is worse than A by 12.5 points" in printed
        assert "tp=4: ERROR: " in printed
        assert "FAILED: 1 of 3 points is worse than A: tp=2 (1 PASSED, 1 FAILED, 1 INCON" in printed
    found = said(output)
    states = [each["status"] for each in found["points"]]  # type: ignore[attr-defined]
    assert states == ["PASSED", "FAILED", "INCONCLUSIVE"]
    assert Page((output / "compare.html").read_text()).loads == [
        "0/compare.html",
        "1/compare.html",
    ]
    assert (output / "1" / "compare.html").is_file()
    assert main([str(sweep), str(sweep), "--output", str(output)]) == 1
    assert "both sweeps" in capsys.readouterr().err


# Usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: A, B"),
        (["a"], "the following arguments are required: B"),
        (["a", "b", "--margin", "-1"], "argument --margin"),
        (["a", "b", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_wrong_usage_ends_with_1(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_what_is_no_run_is_said_in_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(0))
    (tmp_path / "b").mkdir()
    assert compared(tmp_path)[0] == 1
    assert re.fullmatch(r"error: .*/b: no run in .*\n", capsys.readouterr().err)
    assert not (tmp_path / "page").exists()
    assert main([str(tmp_path / "a"), str(tmp_path / "nowhere")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'nowhere'}: no such directory")
    assert "verdict.reference" not in error and len(error.splitlines()) == 1


def test_a_place_that_takes_no_files_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(0))
    write_run(tmp_path / "b", rows(0))
    (tmp_path / "page").write_text("a file")
    assert compared(tmp_path)[0] == 1
    assert "not writable" in capsys.readouterr().err


def test_a_broken_file_is_the_users_to_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(0))
    write_run(tmp_path / "b", rows(0))
    (tmp_path / "b" / "plan.json").write_text("{")
    assert compared(tmp_path)[0] == 1
    assert "cannot be read" in capsys.readouterr().err


def test_help_is_quick_and_names_the_exit_statuses() -> None:
    code = (
        "import sys\nfrom runner.compare.__main__ import main\nmain(['--help'])\n"
        "heavy = {'numpy', 'scipy', 'pyarrow', 'matplotlib', 'mlflow', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "Exit status: 0 B is no worse" in printed
    assert printed.splitlines()[-1] == "[]"


def test_a_page_that_cannot_be_written_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", rows(wrong=10, n=20))
    write_run(tmp_path / "b", rows(wrong=10, n=20))
    (tmp_path / "page" / "compare.md").mkdir(parents=True)
    assert compared(tmp_path)[0] == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: could not write the comparison: Is a directory")
