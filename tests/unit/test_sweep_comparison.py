"""Which points are compared, and what is said of them."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from scipy.stats import ttest_1samp

from runner.environment import Environment
from runner.errors import UserError
from runner.outcome import State
from runner.rundir import write_json
from runner.sweep.answers import COLUMNS, LATER, read_answers
from runner.sweep.axis_findings import amount, probability
from runner.sweep.comparison import Comparison, compare
from runner.sweep.conclusion import answer
from runner.sweep.effects import MCNEMAR, T_TEST
from runner.sweep.markdown import page
from runner.sweep.releases import releases
from runner.sweep.screen import findings, unexplained
from runner.sweep.summary import MetricId, Sweep, read_sweep, short_keys, short_values
from runner.sweep.tables import rows
from tests.sweeps import LEAVES, TASK, Asked, Found, build, grid

ACC = MetricId(TASK, "acc", "none")
TP, LENGTH, PYTHON = "parallelism.tp", "engine.max_model_len", "engine.python"
Scores = list[float]


def right(count: int, of: int = 100) -> Scores:
    return [1.0] * count + [0.0] * (of - count)


def compared(directory: Path, points: list[Asked]) -> tuple[Sweep, tuple[Comparison, ...]]:
    sweep = read_sweep(build(directory, points))
    asked = {ACC: {p.number: a for p in sweep.points if (a := read_answers(p, (ACC,)).get(ACC))}}
    return sweep, compare(sweep, asked)


def by_tp(found: Callable[[str], Found | None]) -> list[Asked]:
    return grid({TP: ["1", "2", "4"]}, lambda chosen: found(chosen[TP]))


# Names


def test_short_keys_stay_apart() -> None:
    keys = ("parallelism.tp", "engine.seed", "task.seed", "model")
    assert short_keys(keys) == ("tp", "engine.seed", "task.seed", "model")


def test_short_keys_of_a_key_that_ends_another() -> None:
    short = short_keys(("tp", "parallelism.tp"))
    assert len(set(short)) == 2


def test_short_values() -> None:
    assert short_values(["/weights/a", "Qwen/Qwen3-8B"]) == ("a", "Qwen3-8B")
    assert short_values(["/one/a", "/two/a"]) == ("/one/a", "/two/a")
    assert all(len(value) < 26 for value in short_values(["x" * 60, "y" * 60]))
    assert short_values(["a b/c", ""]) == ("a b/c", "")


def test_servers_are_named_by_host_and_port() -> None:
    """Hydra escapes the colons of what it splits."""
    escaped = [r"http\://10.0.0.11\:8000/v1", r"http\://10.0.0.12\:8000/v1"]
    assert short_values(escaped) == ("10.0.0.11:8000", "10.0.0.12:8000")
    assert short_values(["https://a/v1", "http://a/v1"]) == ("https://a/v1", "http://a/v1")
    assert short_values(["https://a/one/v1"]) == ("https://a/one/v1",)


# What lies on disk


def test_points_read_as_they_ended(tmp_path: Path) -> None:
    points = [
        Asked((f"{TP}=1",), Found(right(80)), 0),
        Asked((f"{TP}=2",), None, 1, ("too few devices", "and no memory")),
        Asked((f"{TP}=3",), Found([], state=State.ERROR), 2),
        Asked((f"{TP}=4",), Found(right(40)), 3),
        Asked((f"{TP}=5",), None, 130),
        Asked((f"{TP}=6",), None, 2),
        Asked((f"{TP}=7",)),
        Asked((f"{TP}=8",)),
    ]
    directory = build(tmp_path, points)
    (directory / "7").mkdir()
    (directory / "7" / "config.yaml").write_text("")
    sweep = read_sweep(directory)
    assert [point.state for point in sweep.points] == [
        "PASSED", "REFUSED", "ERROR", "FAILED", "INTERRUPTED", "ERROR", "NOT RUN", "UNFINISHED",
    ]  # fmt: skip
    assert [point.label for point in sweep.points][:2] == ["tp=1", "tp=2"]
    assert sweep.compared == (ACC,)
    assert unexplained(sweep)[0] == "REFUSED 1 (tp=2): too few devices; and no memory"


def test_a_refused_point_has_no_results_of_an_earlier_attempt(tmp_path: Path) -> None:
    points = [Asked((f"{TP}=1",), Found(right(80)), 1, ("too few devices",))]
    (point,) = read_sweep(build(tmp_path, points)).points
    assert (point.state, point.metrics, point.outcome) == ("REFUSED", {}, None)


def test_reasons_that_points_share_are_said_once(tmp_path: Path) -> None:
    points = [Asked((f"{TP}={n}",), None, 1, ("no such device",)) for n in range(20)]
    (line,) = unexplained(read_sweep(build(tmp_path, points)))
    assert line.startswith("REFUSED 20 points (0, 1, ")
    assert line.endswith("…): no such device")


def test_a_file_cut_short_costs_its_point_alone(tmp_path: Path) -> None:
    directory = build(tmp_path, by_tp(lambda tp: Found(right(80))))
    (directory / "1" / "verdict.json").write_text('{"status": "PASS')
    states = [point.state for point in read_sweep(directory).points]
    assert states == ["PASSED", "ERROR", "PASSED"]


def test_not_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a sweep directory \(sweep\.json is missing\)"):
        read_sweep(tmp_path)


def test_without_a_baseline_the_first_metric_is_compared(tmp_path: Path) -> None:
    sweep = read_sweep(build(tmp_path, by_tp(lambda tp: Found(right(80), baseline=None))))
    assert sweep.compared == (ACC,)


# Samples


def test_a_groups_questions_are_its_leaves(tmp_path: Path) -> None:
    sweep = read_sweep(build(tmp_path, by_tp(lambda tp: Found([1, 0, 1, 1, 0]))))
    leaf = MetricId(LEAVES[0], "acc", "none")
    found = read_answers(sweep.points[0], (ACC, leaf))
    assert [answer.score for answer in found[ACC].values()] == [1, 0, 1, 1, 0]
    assert [answer.score for answer in found[leaf].values()] == [1, 1, 0]
    assert read_answers(sweep.points[0], (MetricId(TASK, "f1", "none"),)) == {}


def test_the_columns_are_those_that_runs_write() -> None:
    """Importing runner.lm.sample_table needs an engine; its source says which columns it writes."""
    source = (Path(__file__).parents[2] / "runner/lm/sample_table.py").read_text(encoding="utf-8")
    assert all(f'("{column}", pa.' in source for column in (*COLUMNS, *LATER))


def test_all_answers_to_a_question_count(tmp_path: Path) -> None:
    """Every fourth answer is right to the first question, every second to the other."""
    scores = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    points = by_tp(lambda tp: Found(scores, samples=4, seed=7))
    answers = read_answers(read_sweep(build(tmp_path, points)).points[0], (ACC,))[ACC]
    assert [(each.score, each.samples) for each in answers.values()] == [(0.25, 4), (0.5, 4)]


def test_a_question_with_an_answer_that_has_no_number_is_left_out(tmp_path: Path) -> None:
    points = by_tp(lambda tp: Found([1.0, math.nan, 1.0, 0.0], samples=2, seed=7))
    answers = read_answers(read_sweep(build(tmp_path, points)).points[0], (ACC,))[ACC]
    assert [each.score for each in answers.values()] == [0.5]


def test_a_file_of_an_older_version_is_read(tmp_path: Path) -> None:
    """It has no repeats and no seeds: whether sampled texts are comparable is unknown."""
    points = by_tp(lambda tp: Found(right(80), seed=7))
    sweep = read_sweep(build(tmp_path, points))
    for point in sweep.points:
        table = pq.read_table(point.files.samples).drop_columns(LATER)
        pq.write_table(table, point.files.samples)
    found = [read_answers(point, (ACC,))[ACC] for point in sweep.points[:2]]
    assert {each.draw for each in found[0].values()} == {None}
    assert not any(one.drawn_as(found[1][name]) for name, one in found[0].items())


def test_a_number_alone_is_no_identity(tmp_path: Path) -> None:
    """The same places with other documents: another version of the data set."""
    other = [f"new {place}" if place < 30 else str(place) for place in range(100)]
    points = by_tp(lambda tp: Found(right(80), documents=other if tp == "2" else None))
    _, (two, four) = compared(tmp_path, points)
    assert (two.effect.n, two.effect.unpaired) == (70, 60)
    assert (four.effect.n, four.effect.unpaired) == (100, 0)


# Pairs of points


def test_points_that_differ_in_one_axis_are_pairs(tmp_path: Path) -> None:
    axes = {TP: ["1", "2"], LENGTH: ["512", "1024", "2048"]}
    _, found = compared(tmp_path, grid(axes, lambda chosen: Found(right(80))))
    assert [(c.axis.short, c.value, c.effect.pairs) for c in found] == [
        ("tp", "2", 3),
        ("max_model_len", "1024", 2),
        ("max_model_len", "2048", 2),
    ]
    assert {c.comparisons for c in found} == {3}


def test_missing_points_leave_the_pairs_that_are_there(tmp_path: Path) -> None:
    axes = {TP: ["1", "2"], LENGTH: ["512", "1024"]}

    def found(chosen: dict[str, str]) -> Found | None:
        return None if chosen == {TP: "2", LENGTH: "512"} else Found(right(80))

    _, comparisons = compared(tmp_path, grid(axes, found))
    assert [(c.axis.short, c.effect.pairs) for c in comparisons] == [
        ("tp", 1),
        ("max_model_len", 1),
    ]


def test_a_reference_that_was_not_measured_is_replaced(tmp_path: Path) -> None:
    points = by_tp(lambda tp: None if tp == "1" else Found(right(80)))
    _, (only,) = compared(tmp_path, points)
    assert (only.reference, only.value) == ("2", "4")


def test_nothing_measured(tmp_path: Path) -> None:
    sweep, comparisons = compared(tmp_path, by_tp(lambda tp: None))
    assert (comparisons, sweep.compared) == ((), ())


# Words


def test_words_of_a_difference(tmp_path: Path) -> None:
    points = by_tp(lambda tp: Found(right(55 if tp == "4" else 80)))
    sweep, comparisons = compared(tmp_path, points)
    ((head, below),) = findings(sweep, comparisons)
    assert (
        head
        == "tp: 1 of 2 values differ significantly from the reference (1), 1 give the same answers"
    )
    # b = 25, c = 0, n = 100: -25/102 ± 1.96 * sqrt(26 - 625/102) / 102
    assert below == (
        "4 vs 1: −25.0 points (95 % −33.1 to −15.9), 0 answers better, 25 worse, "
        "p < 0.001 after Holm (exact McNemar): significant"
    )


def test_words_of_no_difference(tmp_path: Path) -> None:
    points = by_tp(lambda tp: Found(right(82 if tp == "2" else 80)))
    ((_, below),) = findings(*compared(tmp_path, points))
    # Two comparisons: 2 * 0.5^k <= 0.025 needs seven questions of 100.
    assert below == (
        "2 vs 1: +2.0 points, 2 answers better, 0 worse, p = 1.00 after Holm (exact McNemar): "
        "not significant (detectable difference: 7.0 points with 100 questions)"
    )


def test_words_of_the_same_answers(tmp_path: Path) -> None:
    ((only,),) = findings(*compared(tmp_path, by_tp(lambda tp: Found(right(80)))))
    assert only == "tp: the same 100 answers at all 3 values"


@pytest.mark.parametrize(
    ("limits", "said"),
    [(["100", "60", "20"], "20 or 60"), (["100", "60", "40", "20"], "20 to 60")],
)
def test_words_of_the_same_answers_to_some_of_the_questions(
    tmp_path: Path, limits: list[str], said: str
) -> None:
    def found(chosen: dict[str, str]) -> Found:
        return Found(right(80)[: int(chosen["task.limit"])])

    ((only,),) = findings(*compared(tmp_path, grid({"task.limit": limits}, found)))
    assert only == (
        f"limit: the same {said} answers at all {len(limits)} values; up to 80 questions could not "
        "be paired"
    )


def test_words_of_the_same_scores(tmp_path: Path) -> None:
    def found(chosen: dict[str, str]) -> Found:
        responses = ["A"] * 99 + [chosen[TP]]
        return Found(right(80), responses=responses)

    ((only,),) = findings(*compared(tmp_path, grid({TP: ["1", "2"]}, found)))
    assert only == ("tp: 2 vs 1: the same score on all 100 questions, although 1 answer differs")


def sampled(seed: int, samples: int, salt: str = "") -> Found:
    """A hundred questions, right half of the time; a seed gives the same texts each time."""
    rng = random.Random(f"{seed}{salt}")
    scores = [float(rng.random() < 0.5) for _ in range(100 * samples)]
    responses = [f"{'A' if score else 'B'} {rng.random()}" for score in scores]
    return Found(scores, responses=responses, samples=samples, seed=100_000 * seed)


@pytest.mark.parametrize("samples", [1, 4])
def test_words_of_the_same_draws(tmp_path: Path, samples: int) -> None:
    """The determinism check: the same seeds on engines of their own."""
    points = grid({"sweep.repeat": ["0", "1", "2"]}, lambda chosen: sampled(1, samples))
    sweep, comparisons = compared(tmp_path, points)
    ((only,),) = findings(sweep, comparisons)
    answers = 100 * samples
    assert only == f"repeat: the same {answers} answers at all 3 values (sampled with equal seeds)"
    assert answer(sweep, comparisons).endswith("all compared points gave the same answers")
    two = grid({"sweep.repeat": ["0", "1"]}, lambda chosen: sampled(1, samples))
    ((line,),) = findings(*compared(tmp_path / "two", two))
    assert line == f"repeat: 1 vs 0: the same {answers} answers (sampled with equal seeds)"


@pytest.mark.parametrize(
    ("samples", "said"),
    [(1, "although 100 answers differ"), (4, "although answers to 100 questions differ")],
)
def test_an_engine_that_does_not_repeat_its_draws_is_seen(
    tmp_path: Path, samples: int, said: str
) -> None:
    def found(chosen: dict[str, str]) -> Found:
        drawn = sampled(1, samples)
        assert drawn.responses is not None
        written = [f"{text} {chosen['sweep.repeat']}" for text in drawn.responses]
        return replace(drawn, responses=written)

    points = grid({"sweep.repeat": ["0", "1"]}, found)
    _, (one,) = comparison = compared(tmp_path, points)
    assert (one.effect.answers_differ, one.effect.drawn) == (100, 0)
    ((line,),) = findings(*comparison)
    assert line == f"repeat: 1 vs 0: the same score on all 100 questions, {said}"


@pytest.mark.parametrize("samples", [1, 4])
def test_other_seeds_are_compared_by_question_means_and_not_by_texts(
    tmp_path: Path, samples: int
) -> None:
    points = grid(
        {"task.seed": ["1", "2"]}, lambda chosen: sampled(int(chosen["task.seed"]), samples)
    )
    sweep, comparisons = compared(tmp_path, points)
    (one,) = comparisons
    first, second = (sampled(seed, samples).means for seed in (1, 2))
    differences = [after - before for before, after in zip(first, second, strict=True)]
    assert one.effect.difference == pytest.approx(statistics.fmean(differences))
    assert one.effect.up == sum(each > 0 for each in differences)
    assert (one.effect.answers_differ, one.effect.drawn, one.effect.n) == (0, 100, 100)
    assert one.effect.test == (MCNEMAR if samples == 1 else T_TEST)
    if samples > 1:
        assert one.effect.p == pytest.approx(ttest_1samp(differences, 0).pvalue)
    ((line,),) = findings(sweep, comparisons)
    unit = "answers" if samples == 1 else "questions"
    assert f"{one.effect.up} {unit} better, {one.effect.down} worse" in line
    assert line.endswith("; answers are sampled with other seeds, so texts are not compared")
    table = page(sweep, comparisons, [])
    assert f" | {one.effect.down} | n/a | {one.effect.test} | " in table
    assert "Answers that are sampled with other seeds differ by chance" in table


def test_the_same_scores_from_other_seeds_are_not_called_the_same_answers(tmp_path: Path) -> None:
    def found(chosen: dict[str, str]) -> Found:
        return replace(
            sampled(1, 4),
            seed=int(chosen["task.seed"]),
            responses=[f"{number} {chosen['task.seed']}" for number in range(400)],
        )

    ((line,),) = findings(*compared(tmp_path, grid({"task.seed": ["1", "2"]}, found)))
    assert line == (
        "seed: 2 vs 1: the same score on all 100 questions; answers are sampled with other seeds, "
        "so texts are not compared"
    )


def test_throughput_is_that_of_all_samples(tmp_path: Path) -> None:
    points = grid({"task.seed": ["1"]}, lambda chosen: replace(sampled(1, 4), seconds=10.0))
    sweep = read_sweep(build(tmp_path, points))
    assert rows(sweep)[0]["samples_per_s"] == 40
    assert rows(sweep)[0]["n"] == 100


def test_another_number_of_samples_is_compared_by_means(tmp_path: Path) -> None:
    points = grid({"task.samples": ["2", "4"]}, lambda c: sampled(1, int(c["task.samples"])))
    _, (one,) = compared(tmp_path, points)
    assert (one.effect.n, one.effect.answers, one.effect.drawn) == (100, 400, 100)
    means = [sampled(1, k).means for k in (2, 4)]
    assert one.effect.difference == pytest.approx(
        statistics.fmean(means[1]) - statistics.fmean(means[0])
    )


def test_words_where_less_is_better(tmp_path: Path) -> None:
    def found(chosen: dict[str, str]) -> Found:
        return Found(right(80 if chosen[TP] == "1" else 55), higher_is_better=False)

    ((only,),) = findings(*compared(tmp_path, grid({TP: ["1", "2"]}, found)))
    assert "25 answers better, 0 worse" in only


def test_words_of_pairs_and_of_questions_without_one(tmp_path: Path) -> None:
    def found(chosen: dict[str, str]) -> Found:
        return Found(right(55 if chosen[TP] == "2" else 80, of=100)[: int(chosen["task.limit"])])

    axes = {TP: ["1", "2"], "task.limit": ["60", "100"]}
    ((tp,), (limit,)) = findings(*compared(tmp_path, grid(axes, found)))
    assert tp.startswith("tp: 2 vs 1 (2 pairs of points): −")
    assert limit.endswith("the same 60 answers; 40 questions could not be paired")


def test_one_question_a_point_is_compared(tmp_path: Path) -> None:
    ((same,),) = findings(*compared(tmp_path / "same", by_two(lambda tp: [1.0])))
    assert same == "tp: 2 vs 1: the same answer"
    ((other,),) = findings(*compared(tmp_path / "other", by_two(lambda tp: [float(tp == "1")])))
    assert other.endswith("not significant (no difference is detectable with 1 question)")


def by_two(scores: Callable[[str], Scores]) -> list[Asked]:
    return grid({TP: ["1", "2"]}, lambda chosen: Found(scores(chosen[TP])))


def test_points_without_a_question_in_common_are_not_called_unmeasured(tmp_path: Path) -> None:
    def found(chosen: dict[str, str]) -> Found:
        return Found([1.0, 0.0], documents=[f"{chosen[TP]} {place}" for place in range(2)])

    ((only,),) = findings(*compared(tmp_path, grid({TP: ["1", "2"]}, found)))
    assert only.startswith("tp: not tested, no two points have scores on the same question")


def test_the_likeliest_choice_is_the_answer_and_not_its_last_digits(tmp_path: Path) -> None:
    def choosing(chosen: dict[str, str]) -> Found:
        drift = 1e-7 if chosen[TP] == "2" else 0.0
        turned = chosen[TP] == "4"
        choices = [(-1.0 - drift - 9 * (turned and n == 0), -2.0) for n in range(100)]
        return Found(right(80), responses=[str(each) for each in choices], choices=choices)

    points = grid({TP: ["1", "2", "4"]}, choosing)
    _, (two, four) = compared(tmp_path, points)
    assert two.effect.identical
    assert four.effect.answers_differ == 1


def test_what_was_not_compared_is_named(tmp_path: Path) -> None:
    """Values without a measured point, and pairs of points of which one broke."""
    points = by_tp(lambda tp: None if tp == "4" else Found(right(80)))
    ((only,),) = findings(*compared(tmp_path / "values", points))
    assert only == "tp: 2 vs 1: the same 100 answers; not compared: 4"
    axes = {TP: ["1", "2"], LENGTH: ["512", "1024"]}

    def found(chosen: dict[str, str]) -> Found | None:
        return None if chosen == {TP: "2", LENGTH: "512"} else Found(right(80))

    ((tp,), _) = findings(*compared(tmp_path / "pairs", grid(axes, found)))
    assert tp == "tp: 2 vs 1 (1 of 2 pairs of points): the same 100 answers"


def test_an_axis_that_no_two_points_stand_for(tmp_path: Path) -> None:
    points = [
        Asked((f"{TP}=1", f"{LENGTH}=512"), Found(right(80)), 0),
        Asked((f"{TP}=2", f"{LENGTH}=1024"), Found(right(80)), 0),
    ]
    found = findings(*compared(tmp_path, points))
    assert [line for (line,) in found] == [
        f"{axis}: nothing to compare, no two measured points differ only in this axis"
        for axis in ("tp", "max_model_len")
    ]


@pytest.mark.parametrize(
    ("two", "four", "said"),
    [
        (right(80), right(55), "tp changes mini acc: −25.0 points (4 vs 1)"),
        (
            right(80),
            right(80),
            "No axis changes mini acc: all compared points gave the same answers",
        ),
        (
            right(80),
            right(82),
            "No significant effect on mini acc (detectable difference: 7.0 points)",
        ),
        (
            right(2, of=4),
            right(3, of=4),
            "No significant effect on mini acc: too few questions to detect any difference",
        ),
    ],
)
def test_the_answer_in_a_sentence(tmp_path: Path, two: Scores, four: Scores, said: str) -> None:
    chosen = {"1": right(80), "2": two, "4": four}
    assert answer(*compared(tmp_path, by_tp(lambda tp: Found(chosen[tp])))) == said


def test_the_answer_where_nothing_was_measured(tmp_path: Path) -> None:
    nothing = compared(tmp_path / "none", by_tp(lambda tp: None))
    assert answer(*nothing) == "No point was measured"
    one = by_tp(lambda tp: Found(right(80)) if tp == "1" else None)
    assert answer(*compared(tmp_path / "one", one)) == "No two points could be compared"


def test_numbers_in_words() -> None:
    assert amount(-0.032, share=True) == "−3.2 points"
    assert amount(-0.00001, share=True) == "0.0 points"
    assert amount(1.25, share=False) == "+1.25"
    assert [probability(p) for p in (0.0004, 0.0312, 0.234)] == [
        "p < 0.001",
        "p = 0.031",
        "p = 0.23",
    ]


# Environments (engine.python)


def test_interpreters_are_named_by_their_environment() -> None:
    assert short_values(["/envs/0.23/bin/python", "/envs/0.32/bin/python3.11", "null"]) == (
        "0.23",
        "0.32",
        "null",
    )
    same = ["/envs/one/bin/python", "/envs/one/bin/python3"]
    assert short_values(same) == tuple(same)


def test_the_versions_that_differ_are_listed_by_environment(
    tmp_path: Path, environment: Environment
) -> None:
    pythons = ["/envs/old/bin/python", "/envs/new/bin/python"]
    points = grid({PYTHON: pythons}, lambda chosen: Found(right(80)))
    sweep, comparisons = compared(tmp_path, points)
    assert releases(sweep) == []  # nothing is known of them
    for point, version in zip(sweep.points, ("2.9.0", "2.10.0"), strict=True):
        packages = {**environment.packages, "torch": version}
        write_json(point.files.environment, replace(environment, packages=packages))
    assert releases(sweep) == ["old: torch 2.9.0", "new: torch 2.10.0"]
    assert findings(sweep, comparisons)[-1] == ["Versions that differ:", *releases(sweep)]
    assert "new: torch 2.10.0" in page(sweep, comparisons, ())
