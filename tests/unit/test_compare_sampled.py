"""python -m runner.compare on runs with sampled answers, one or several to each question."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.compare.__main__ import main
from runner.lm.sample_table import sample_table, write_samples
from runner.plan import Evaluation
from runner.rundir import RunDirectory
from runner.stats.drops import of_question_means
from runner.stats.exchange import exchanged
from tests.compared import TASK, drawn, row, write_run
from tests.html import Page

HALF = [4] * 60


def compared(tmp_path: Path, *more: str) -> tuple[int, dict[str, Any]]:
    output = tmp_path / "page"
    status = main([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(output), *more])
    found: dict[str, Any] = json.loads((output / "compare.json").read_text())
    return status, found


def luck(seed: int, samples: int, questions: int = 60) -> list[int]:
    """Numbers of right answers to questions that are right half of the time."""
    rng = random.Random(seed)
    return [sum(rng.random() < 0.5 for _ in range(samples)) for _ in range(questions)]


@pytest.mark.parametrize("samples", [1, 8])
def test_another_seed_is_no_other_arithmetic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], samples: int
) -> None:
    sure: dict[str, Any] = {"margins": [9.0] * 4}
    write_run(tmp_path / "a", drawn(luck(1, samples), samples, **sure))
    shifted = {**sure, "logprobs": [-3.0] * 4}
    write_run(tmp_path / "b", drawn(luck(2, samples), samples, seed=77, **shifted))
    status, found = compared(tmp_path)
    printed = capsys.readouterr().out
    assert status == 4
    answers = 60 * samples
    assert (
        f"{answers} answers of A and {answers} of B are sampled at random; their log-probabilities "
        "are not compared. No two were recorded with equal seeds, so texts differ by chance."
    ) in printed
    page = (tmp_path / "page" / "compare.html").read_text()
    for text in (printed, page):
        assert "do not compute" not in text
    assert {each["kind"] for each in found["kinds"]} == {"different draws"}
    assert found["numerics"]["pairs"] == 0
    assert found["numerics"]["tokens"] is None
    assert "Log-probabilities</h2>" not in page
    assert Page(page).open == []


def test_equal_draws_are_equal_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", drawn(HALF, 8))
    write_run(tmp_path / "b", drawn(HALF, 8))
    status, found = compared(tmp_path, "--margin", "0.1")
    printed = capsys.readouterr().out
    assert status == 0
    assert "PASSED: B gave the same 480 answers as A." in printed
    assert "Of 480 pairs with equal seeds, 480 are identical." in printed
    assert "60 questions, 8 samples each" in printed
    assert (found["pairs"], found["same"], found["same_answers"]) == (60, 60, 480)
    assert compared(tmp_path)[0] == 4
    assert (
        "Cannot tell whether B is worse than A: B gave the same 480 answers to the 60 questions; "
        "on others, a drop of up to "
    ) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {},
            "the others are different draws, although nothing recorded differs: the engine does "
            "not repeat its draws exactly.",
        ),
        (
            {"engine_fingerprint": "another"},
            "the others are different draws, which alone show no fault.",
        ),
    ],
)
def test_equal_seeds_with_other_texts_are_different_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict[str, Any], said: str
) -> None:
    write_run(tmp_path / "a", drawn(HALF, 8))
    rows = drawn(HALF, 8)
    rows[3] = replace(rows[3], responses=["A, says someone"])
    write_run(tmp_path / "b", rows, **other)
    _, found = compared(tmp_path)
    assert f"Of 480 pairs with equal seeds, 479 are identical; {said}" in capsys.readouterr().out
    assert found["draws"] == {"first": 480, "second": 480, "seeded": 480, "alike": 479}
    assert (found["same"], found["same_answers"], found["flips"]) == (59, 472, 0)
    assert found["kinds"] == [{"kind": "different draws", "n": 1, "better": 0, "worse": 0}]


@pytest.mark.parametrize("samples", [(8, 4), (1, 8), (4, 4)])
def test_question_means_are_tested_as_the_rule_paired_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], samples: tuple[int, int]
) -> None:
    first, second = luck(1, samples[0]), luck(2, samples[1])
    write_run(tmp_path / "a", drawn(first, samples[0]))
    write_run(tmp_path / "b", drawn(second, samples[1], seed=77))
    _, found = compared(tmp_path)
    scores = [
        [[float(number < count) for number in range(k)] for count in side]
        for side, k in zip((first, second), samples, strict=True)
    ]
    drop = of_question_means(scores[0], scores[1], 1, 1.0)
    (whole, *_) = found["scores"]
    assert (whole["n"], whole["samples"]) == (60, list(samples))
    assert (whole["test"], whole["p"]) == (drop.test, pytest.approx(drop.p))
    assert whole["difference"] == pytest.approx(-drop.drop)
    moved = [b / samples[1] - a / samples[0] for a, b in zip(first, second, strict=True)]
    assert whole["worse"] == sum(each < 0 for each in moved)
    assert whole["better"] == sum(each > 0 for each in moved)
    assert found["ruling"]["metrics"][0]["p"] == whole["p"]
    each = f"A {samples[0]} sample{'' if samples[0] == 1 else 's'} each, B {samples[1]}"
    if samples[0] == samples[1]:
        each = f"{samples[0]} samples each"
    printed = capsys.readouterr().out
    assert f"Of 60 shared questions ({each}), {whole['worse']} got worse and " in printed
    assert f"questions with {samples[1]} samples each are needed to pass" in printed


def test_several_answers_show_a_drop_that_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", drawn([6] * 60, 8))
    write_run(tmp_path / "b", drawn([2 + n % 4 for n in range(60)], 4 * 2, seed=77))
    assert compared(tmp_path)[0] == 3
    assert "FAILED: B is worse than A by 31.2 points" in capsys.readouterr().out


def test_the_largest_changes_of_the_mean_come_first_with_an_answer_each(tmp_path: Path) -> None:
    before, after = [6] * 20, [6] * 20
    after[4], after[2], after[3], after[6] = 4, 2, 8, 7
    write_run(tmp_path / "a", drawn(before, 8))
    write_run(tmp_path / "b", drawn(after, 8, seed=77))
    _, found = compared(tmp_path)
    assert found["flips"] == 4
    shown = [(each["task"], each["doc_id"]) for each in found["shown"]]
    assert shown == [("mini_colour", 1), ("mini_shape", 1), ("mini_colour", 2), ("mini_colour", 3)]
    worst = found["shown"][0]
    assert (worst["first"]["tally"], worst["second"]["tally"]) == ("6 of 8", "2 of 8")
    assert worst["first"]["scores"] == {"acc": 1.0}
    assert worst["second"]["scores"] == {"acc": 0.0}
    assert (worst["second"]["place"], worst["second"]["answers"]) == (3, 8)
    best = found["shown"][1]
    assert best["first"]["scores"] == {"acc": 0.0}
    assert best["second"]["scores"] == {"acc": 1.0}
    tallies = {(each["task"], each["doc_id"]): each["tallies"] for each in found["changes"]}
    assert tallies["mini_colour", 1] == "6 of 8 → 2 of 8"
    page = "".join(Page((tmp_path / "page" / "compare.html").read_text()).text)
    assert "6 of 8 → 2 of 8" in page
    assert "answer 3 of 8" in page
    assert "Changed scores (4)" in page
    report = (tmp_path / "page" / "compare.md").read_text()
    assert "| worse | 6 of 8 → 2 of 8 | different draws |" in report


def test_scores_in_between_are_told_as_means(tmp_path: Path) -> None:
    first = [replace(each, scores={"f1": 0.2}) for each in drawn([0] * 20, 4)]
    second = [replace(each, scores={"f1": 0.25}) for each in drawn([0] * 20, 4, seed=77)]
    write_run(tmp_path / "a", first)
    write_run(tmp_path / "b", second)
    _, found = compared(tmp_path)
    assert found["changes"][0]["tallies"] == "0.200 (mean of 4) → 0.250 (mean of 4)"
    (distribution,) = found["distributions"]
    assert [each["name"] for each in distribution["shares"]] == []


# Distributions


def test_lengths_and_shares_are_compared_within_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", drawn(HALF, 8, tokens=40))
    rows = [
        replace(
            each,
            finish_reasons=["length" if each.repeat == 0 else "stop"],
            degenerate=["repeating"] if each.repeat == 0 and each.doc_id < 4 else [],
            cut_thinking=int(each.repeat == 0),
            filtered="[invalid]" if each.repeat == 0 else each.filtered,
        )
        for each in drawn(HALF, 8, seed=77, tokens=60)
    ]
    write_run(tmp_path / "b", rows)
    _, found = compared(tmp_path)
    (distribution,) = found["distributions"]
    assert (distribution["task"], distribution["questions"]) == (TASK, 60)
    assert distribution["answers"] == [480, 480]
    lengths = distribution["lengths"]
    assert lengths["unit"] == "tokens"
    assert (lengths["first"], lengths["second"]) == ([41.75, 43.5, 45.25], [61.75, 63.5, 65.25])
    assert lengths["p"] < 0.01
    shares = {each["name"]: (each["first"], each["second"]) for each in distribution["shares"]}
    assert shares == {
        "correct": (240, 240),
        "stopped at the token limit": (0, 60),
        "cut within the reasoning": (0, 60),
        "unparsable": (0, 60),
        "degenerate": (0, 8),
    }
    p = {each["name"]: each["p"] for each in distribution["shares"]}
    assert p["correct"] is None
    # Eight answers, each as likely to be one of A: 2 / 2^8. The largest of five p is not adjusted.
    alone = exchanged([[0.0] * 8] * 8, [[1.0] + [0.0] * 7] * 8)
    assert alone == pytest.approx(2 / 2**8, rel=0.5)
    assert p["degenerate"] == pytest.approx(alone)
    printed = capsys.readouterr().out
    assert "Median answer length: 44 tokens in A, 64 in B (p = 0.002); correct: " in printed
    assert "stopped at the token limit: 0 in A, 60 (12.5 %) in B (p = 0.002)" in printed
    page = (tmp_path / "page" / "compare.html").read_text()
    assert '<h2 id="sampled">Sampled answers</h2>' in page
    assert "| degenerate | 0 | 8 (1.7 %) | 0.0" in (tmp_path / "page" / "compare.md").read_text()


def test_a_server_without_tokens_is_compared_by_characters(tmp_path: Path) -> None:
    bare: dict[str, Any] = {"token_ids": [], "answer_tokens": [0], "logprobs": [], "margins": []}
    write_run(tmp_path / "a", drawn(HALF, 8))
    write_run(tmp_path / "b", drawn(HALF, 8, seed=77, **bare, reasoning=["Hmm."]))
    _, found = compared(tmp_path)
    lengths = found["distributions"][0]["lengths"]
    assert lengths["unit"] == "characters"
    # "A, says 1234" and "Hmm." with "A, says 77".
    assert (lengths["first"][1], lengths["second"][1]) == (12, 14)


# What is sampled


def test_only_the_sampled_part_of_a_group_is_compared_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def mixed(seed: int, logprob: float) -> list[Any]:
        sampled = [each for each in drawn([1] * 100, 1, seed=seed) if each.task == "mini_colour"]
        greedy = [row(place, logprobs=[logprob, -0.1]) for place in range(1, 100, 2)]
        return [*sampled, *greedy]

    write_run(tmp_path / "a", mixed(1, -0.1))
    write_run(tmp_path / "b", mixed(77, -0.35))
    _, found = compared(tmp_path)
    assert found["draws"]["first"] == 50
    assert found["numerics"]["pairs"] == 50
    assert found["numerics"]["tokens"]["worst"] == pytest.approx(0.25)
    printed = capsys.readouterr().out
    assert "50 answers of A and 50 of B are sampled at random" in printed


def test_runs_of_older_versions_have_no_seeds_and_are_sampled_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("a", 1), ("b", 77)):
        rows = [replace(each, seeds=[]) for each in drawn([1] * 40, 1, seed=seed)]
        outcome = RunDirectory(write_run(tmp_path / name, rows)).outcome
        found = json.loads(outcome.read_text())
        found["tasks"][0]["drawn"] = 40
        outcome.write_text(json.dumps(found))
    _, comparison = compared(tmp_path)
    assert comparison["draws"] == {"first": 40, "second": 40, "seeded": 0, "alike": 0}
    assert "No two were recorded with equal seeds" in capsys.readouterr().out


def test_the_question_is_the_unit_under_a_limit_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limited = (Evaluation(TASK, None, True, True, 40.0, "auto", {}, samples=8),)
    write_run(tmp_path / "a", drawn(HALF[:40], 8), evaluations=limited)
    write_run(tmp_path / "b", drawn([*[4] * 40, *[0] * 20], 8))
    status, found = compared(tmp_path, "--margin", "0.15")
    assert status == 0
    (judged,) = [each for each in found["ruling"]["metrics"] if each["rule"]]
    assert (judged["value"], judged["baseline"], judged["n"]) == (0.5, 0.5, 40)
    assert "Not paired: only in B 20 (A ran with limit 40); 40 pairs remain." in (
        capsys.readouterr().out
    )


def test_lost_answers_are_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", drawn(HALF, 8))
    write_run(tmp_path / "b", drawn(HALF, 8, seed=77)[:-3])
    assert compared(tmp_path, "--margin", "0.9")[0] == 4
    assert "1 questions have more or fewer than 8 saved answers" in capsys.readouterr().out


# Generation settings


def test_other_generation_settings_are_no_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(**settings: float) -> tuple[Evaluation, ...]:
        way = Evaluation(TASK, None, True, True, None, "auto", {}, samples=8)
        return (replace(way, gen_kwargs=settings),)

    write_run(tmp_path / "a", drawn([8] * 60, 8), evaluations=asked(temperature=0.6))
    write_run(tmp_path / "b", drawn([1] * 60, 8), evaluations=asked(temperature=1.0))
    assert compared(tmp_path)[0] == 4
    assert (
        "Cannot tell whether B is worse than A: mini used gen_kwargs={'temperature': 0.6} in A, "
        "but {'temperature': 1.0} in B; answers to different requests cannot be paired."
    ) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "plan", "said"),
    [
        ({"num_fewshot": 5}, {}, "mini used num_fewshot=None in A, but 5 in B"),
        ({"apply_chat_template": False}, {}, "mini used apply_chat_template=True in A, but False"),
        ({"fewshot_as_multiturn": False}, {}, "mini used fewshot_as_multiturn=True in A, but Fals"),
        ({}, {"system_instruction": "Be brief."}, "system_instruction=None in A, but Be brief."),
    ],
)
def test_what_keeps_a_reference_from_being_one_keeps_a_comparison_open(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    task: dict[str, Any],
    plan: dict[str, Any],
    said: str,
) -> None:
    """Equal scores alone would pass: the stored samples are of equal prompts here."""
    way = Evaluation(TASK, None, True, True, None, "auto", {}, samples=8)
    write_run(tmp_path / "a", drawn(HALF, 8))
    write_run(tmp_path / "b", drawn(HALF, 8), evaluations=(replace(way, **task),), **plan)
    assert compared(tmp_path, "--margin", "0.1")[0] == 4
    assert f"Cannot tell whether B is worse than A: {said}" in capsys.readouterr().out


def test_a_reference_that_stores_a_sample_twice_decides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = drawn(HALF, 8)
    write_run(tmp_path / "a", rows)
    write_run(tmp_path / "b", rows)
    write_samples(RunDirectory(tmp_path / "a").samples, [sample_table([*rows, rows[0]])])
    assert compared(tmp_path, "--margin", "0.1")[0] == 4
    assert "has 1 samples more than once" in capsys.readouterr().out


def test_an_older_plan_has_its_generation_settings_elsewhere(tmp_path: Path) -> None:
    write_run(tmp_path / "a", drawn(HALF, 8))
    way = Evaluation(TASK, None, True, True, None, "auto", {}, gen_kwargs={"temperature": 0.6})
    write_run(tmp_path / "b", drawn(HALF, 8), evaluations=(way,))
    plan = RunDirectory(tmp_path / "a").plan
    older = json.loads(plan.read_text())
    del older["evaluations"][0]["gen_kwargs"]
    older["gen_kwargs"] = {"temperature": 0.6}
    plan.write_text(json.dumps(older))
    assert compared(tmp_path, "--margin", "0.1")[0] == 0
