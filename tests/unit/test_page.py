"""report.html: the verdict first, every number true, and nothing that a model wrote runs in it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from runner.channel.worker import EVENTS, RunEnded, WorkerStarted
from runner.config.verdict import VerdictConfig
from runner.environment import Environment
from runner.evidence.samples import Sample
from runner.lm.sample_table import SampleRow, sample_table, write_samples
from runner.outcome import (
    Degeneracy,
    Degenerate,
    Departure,
    MetricResult,
    Outcome,
    State,
    TaskOutcome,
)
from runner.plan import Evaluation, Plan
from runner.present.mlflow_link import linked
from runner.present.strips import scale
from runner.report.answers import LONGEST, Shown, shortened, worst
from runner.report.run_page import render
from runner.report.subjects import by_subject
from runner.rundir import RunDirectory, write_atomic
from runner.verdict import Verdict, judge
from tests.baselines import exact

LEAVES = ("mmmu_val_art", "mmmu_val_physics", "mmmu_val_law")
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre></article><h1>owned</h1>",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egnp.exe \x00\x1b[2J",
    "模型 🦙 naïve",
]
VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Fails where an element is closed that is not the open one."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def elements(page: str) -> list[str]:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser.seen


def text(page: str) -> str:
    """What a reader sees, spaces run together."""
    body = page.partition("<body>")[2]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def row(task: str, place: int, score: float, **other: object) -> SampleRow:
    found: dict[str, object] = {
        "doc_hash": f"{task}{place}",
        "prompt_hash": f"{task}{place}",
        "image_hashes": [],
        "image_sizes": [],
        "prompt": f"question {place} of {task}",
        "target": "A",
        "responses": ["A" if score else "B"],
        "filtered": "A" if score else "B",
        "scores": {"acc": score},
        "truncated": False,
        "prompt_tokens": [40 + place],
        "token_ids": [1] * (2 + place % 5),
        "logprobs": [-0.1] * (2 + place % 5),
        "margins": [1.0] * (2 + place % 5),
        "finish_reasons": ["stop"],
        **other,
    }
    return SampleRow(task, place, "none", **found)  # type: ignore[arg-type]


def of_rows(rows: list[SampleRow], **counts: int) -> TaskOutcome:
    def metric(name: str) -> MetricResult:
        scores = [each.scores["acc"] for each in rows if each.task == name or name == "mmmu_val"]
        value = sum(scores) / len(scores)
        return MetricResult("mmmu_val", "acc", "none", value, 0.02, len(scores), True, True)

    metrics = tuple(replace(metric(name), task=name) for name in ("mmmu_val", *LEAVES))
    return TaskOutcome("mmmu_val", metrics, len(rows), len(rows), seconds=10.0, **counts)


def asked(baseline: float = 0.5) -> Evaluation:
    return Evaluation("mmmu_val", 0, True, True, None, "auto", exact({"acc": {"none": baseline}}))


@pytest.fixture
def rows() -> list[SampleRow]:
    """Physics is worst: a fifth is right there, of the others four in five."""
    return [
        row(task, place, float(place % 5 == 0) if "physics" in task else float(place % 5 > 0))
        for task in LEAVES
        for place in range(20)
    ]


def page_of(
    directory: Path,
    plan: Plan,
    environment: Environment,
    rows: list[SampleRow],
    task: TaskOutcome,
    baseline: float = 0.6,
    **limits: float,
) -> str:
    run = RunDirectory(directory)
    run.claim()
    if rows:
        write_samples(run.samples, [sample_table(rows)])
    outcome = Outcome(State.COMPLETED, tasks=(task,), timings={"evaluate_s": 10.0})
    own = replace(plan, evaluations=(replace(asked(baseline), **limits),))
    verdict = judge(outcome, own.evaluations, VerdictConfig())
    return render(run, own, environment, outcome, verdict)


def test_the_verdict_is_the_first_sentence(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    page = page_of(tmp_path, plan, environment, rows, of_rows(rows))
    said = text(page)
    assert said.startswith("PASSED fixed passed: mmmu_val acc 0.600 ± 0.020 (baseline 0.6).")
    assert "All 60 prompts fit, all answers finished and were parsed." in said
    worse = page_of(tmp_path / "b", plan, environment, rows, of_rows(rows), baseline=0.8)
    assert text(worse).startswith("FAILED fixed failed: mmmu_val acc 0.600")


@pytest.mark.parametrize(
    ("limits", "status", "saying"),
    [
        ({"limit": 20.0}, "INCONCLUSIVE", "gave an inconclusive result"),
        ({"limit": 20.0, "baseline_limit": 20.0}, "PASSED", "passed"),
    ],
)
def test_a_part_of_the_samples_is_named_at_once(
    tmp_path: Path,
    plan: Plan,
    environment: Environment,
    rows: list[SampleRow],
    limits: dict[str, float],
    status: str,
    saying: str,
) -> None:
    task = replace(of_rows(rows), whole=300)
    task = replace(task, metrics=(replace(task.metrics[0], whole=300), *task.metrics[1:]))
    said = text(page_of(tmp_path, plan, environment, rows, task, **limits))
    assert said.startswith(f"{status} fixed {saying} on 60 of 300 samples (task.limit): mmmu_val")
    assert "mmmu_val: limited to 60 of 300 samples (task.limit)." in said
    assert "All 60 prompts fit" in said
    assert "60 questions" not in said


def test_parts_come_worst_first_with_their_own_numbers(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    page = page_of(tmp_path, plan, environment, rows, of_rows(rows))
    table = page.partition("mmmu_val by subject</h2>")[2].partition("</table>")[0]
    found = re.findall(r'class="name">(\w+)</th><td class="n">([\d.]+)</td>', table)
    assert found[0] == ("physics", "0.200")
    assert set(found[1:]) == {("art", "0.800"), ("law", "0.800")}
    assert "Names are shown without their common prefix mmmu_val_ ." in text(page)


def test_how_long_the_answers_took_is_a_picture(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    """A sample takes as long as the last of its requests."""
    timed = [replace(each, seconds=[0.1, 0.2 + place / 50]) for place, each in enumerate(rows)]
    page = page_of(tmp_path / "timed", plan, environment, timed, of_rows(timed))
    spread = "median 780, 95th percentile 1320, maximum 1380"
    assert f"Time per answer in milliseconds in the engine: {spread}" in page
    untold = text(page_of(tmp_path / "untold", plan, environment, rows, of_rows(rows)))
    assert "Time per answer" not in untold


def test_what_was_not_answered_is_counted_and_named(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    rows[0] = replace(rows[0], guessed=True, responses=["no idea"], scores={"acc": 1.0})
    task = of_rows(rows, unparsable=3, guessed=1, cut_answers=2, truncated=1, refused=1)
    lucky = replace(task.metrics[0], luck=0.017)
    left_out = Departure(
        "placeholder without image", "not all images are shown", 6, "mmmu_val_art", 4
    )
    task = replace(
        task, metrics=(lucky, *task.metrics[1:]), expected=61, departures=(left_out,), drawn=60
    )
    said = text(page_of(tmp_path, plan, environment, rows, task))
    for sentence in (
        "mmmu_val: 60 of 61 samples were evaluated.",
        "mmmu_val: 1 (1.7 %) prompts were left-truncated to max_model_len.",
        "mmmu_val: 1 (1.7 %) prompts exceeded max_model_len and were not sent.",
        "mmmu_val: 2 (3.3 %) answers were stopped at the token limit.",
        "mmmu_val: 3 (5.0 %) answers could not be parsed; lm-eval guessed 1 of them at random.",
        "mmmu_val: in 6 (10.0 %) samples, not all images are shown; see document 4 of "
        "mmmu_val_art.",
        "mmmu_val: answers are sampled at random, with seeds from task.seed",
        "random guesses contribute 0.017 to acc; without them the value is 0.",
    ):
        assert sentence in said
    assert "prompts fit" not in said
    first = said.partition("example answers")[2]
    assert "mmmu_val_art #0 no answer could be parsed; lm-eval guessed one" in first


def test_degenerate_answers_are_counted_and_shown_first(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    rows[24] = replace(rows[24], degenerate=["repeating"], responses=["so it is " * 40])
    found = Degenerate(Degeneracy.REPEATING, 1, rows[24].task, rows[24].doc_id)
    task = replace(of_rows(rows), degenerate=(found,))
    said = text(page_of(tmp_path, plan, environment, rows, task))
    sample = f"document {rows[24].doc_id} of {rows[24].task}"
    assert f"mmmu_val: 1 (1.7 %) answers repeat the same tokens to the end; see {sample}." in said
    assert "prompts fit" not in said
    first = said.partition("example answers")[2].partition("#")[2]
    assert first.startswith(f"{rows[24].doc_id} degenerate: repeating")


def test_wrong_answers_come_from_every_part_in_turn(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    sure = replace(rows[27], logprobs=[-0.001] * len(rows[27].logprobs))
    rows[27] = sure
    page = page_of(tmp_path, plan, environment, rows, of_rows(rows))
    heads = re.findall(r"<header><strong>(\w+) #(\d+)</strong>", page)
    assert heads[0] == ("mmmu_val_physics", str(sure.doc_id))
    assert {name for name, _ in heads[:3]} == set(LEAVES)
    assert len(heads) == 10


def test_a_question_asked_several_times_shows_one_answer() -> None:
    """The most confident wrong one; the page says how often the question was answered right."""
    rows = [
        replace(row(task, place, float(repeat < place)), repeat=repeat, logprobs=(-0.1 * repeat,))
        for task in LEAVES
        for place in range(5)
        for repeat in range(4)
    ]
    rows[0] = replace(rows[0], degenerate=["repeating"])
    rows[2] = replace(rows[2], filtered="[invalid]")
    samples = [read_back(each) for each in rows]
    task = replace(of_rows(rows), evaluated=15, expected=15, samples=4)
    verdict = judge(Outcome(State.COMPLETED, tasks=(task,)), (asked(),), VerdictConfig())
    subjects = by_subject(task, verdict, samples)
    assert subjects is not None
    assert [(each.scored, each.unparsable) for each in subjects.rows] == [(20, 1), (20, 0), (20, 0)]
    found = worst(task, verdict, samples, subjects)
    shown = [(each.sample.task, each.sample.doc_id) for each in found]
    assert len(shown) == len(set(shown)) == 10
    assert found[0].why == "degenerate: repeating; 0 of 4 samples score 1"
    # The answer that was no more parsable than the degenerate one is of the same question.
    assert "no answer could be parsed" not in {each.why for each in found}
    by_question = {(each.sample.task, each.sample.doc_id): each for each in found}
    assert by_question["mmmu_val_physics", 1].why == "wrong; 1 of 4 samples score 1"
    assert by_question["mmmu_val_physics", 1].sample.repeat == 1


def test_answers_are_shown_as_wrong_if_none_is_right(rows: list[SampleRow]) -> None:
    wrong = [replace(each, scores={"acc": 0.0}, responses=["B"]) for each in rows]
    assert [each.why for each in shown(wrong, of_rows(wrong))] == ["wrong"] * 10


def test_a_tag_shows_the_wrong_answers_of_its_subtasks(rows: list[SampleRow]) -> None:
    """A tag has no metric of its own."""
    task = of_rows(rows)
    found = shown(rows, replace(task, metrics=task.metrics[1:]))
    assert {each.sample.task for each in found} == set(LEAVES)
    assert {each.score for each in found} == {0.0}


def test_scored_choices_are_not_stopped_at_the_token_limit(rows: list[SampleRow]) -> None:
    scored = [
        replace(each, choice_logprobs=[-1.0, -2.0], finish_reasons=["length"] * 2) for each in rows
    ]
    task = of_rows(scored)
    assert {each.why for each in shown(scored, task)} == {"wrong"}
    verdict = judge(Outcome(State.COMPLETED, tasks=(task,)), (asked(),), VerdictConfig())
    subjects = by_subject(task, verdict, [read_back(each) for each in scored])
    assert subjects is not None and [each.stopped for each in subjects.rows] == [0, 0, 0]


def shown(rows: list[SampleRow], task: TaskOutcome) -> list[Shown]:
    verdict = judge(Outcome(State.COMPLETED, tasks=(task,)), (asked(),), VerdictConfig())
    return worst(task, verdict, [read_back(each) for each in rows], None)


def read_back(each: SampleRow) -> Sample:
    columns = SampleRow.__dataclass_fields__.keys() & Sample.__dataclass_fields__
    return Sample(**{name: getattr(each, name) for name in columns})


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_model_wrote_is_text(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow], hostile: str
) -> None:
    plain = elements(page_of(tmp_path / "plain", plan, environment, rows, of_rows(rows)))
    wrong = [
        replace(each, prompt=hostile, responses=[hostile], target=hostile, filtered=hostile)
        if not each.scores["acc"]
        else each
        for each in rows
    ]
    page = page_of(
        tmp_path / "hostile", replace(plan, model=hostile), environment, wrong, of_rows(wrong)
    )
    assert elements(page) == plain
    assert "<script>alert" not in page and "\u202e" not in page and "\x00" not in page
    if "{{" in hostile:
        assert "{{ 7 * 7 }}" in text(page)


def test_a_huge_answer_does_not_make_a_huge_page(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    wrong = [
        replace(each, responses=["x" * 3_000_000], prompt="y" * 3_000_000)
        if not each.scores["acc"]
        else each
        for each in rows
    ]
    page = page_of(tmp_path, plan, environment, wrong, of_rows(wrong))
    assert len(page) < 200_000
    assert "2996000 characters omitted" in page


def test_shortened_keeps_both_ends() -> None:
    assert shortened("x" * LONGEST) == "x" * LONGEST
    cut = shortened("a" * LONGEST + "b" * LONGEST)
    assert cut.startswith("aaa") and cut.endswith("bbb")
    assert f"{LONGEST} characters omitted" in cut


def test_a_run_that_broke_has_a_page_with_the_end_of_its_log(
    tmp_path: Path, plan: Plan, environment: Environment, verdict: Verdict
) -> None:
    run = RunDirectory(tmp_path / "run")
    run.claim()
    run.events.write_text('{"event": "progress", "task": "gsm8k", "done"')
    died = "the worker process died (signal SIGKILL)"
    broken = Outcome(State.ERROR, died, retries=("out of memory",))
    judged = judge(broken, plan.evaluations, VerdictConfig())
    page = render(run, plan, environment, broken, judged, "RuntimeError: <boom>")
    said = text(page)
    assert said.startswith("ERROR fixed was not measured: the run ended with an error.")
    assert f"{died}." in said
    assert "The attempt failed and was retried: out of memory." in said
    assert "RuntimeError: &lt;boom&gt;" in page
    elements(page)


def test_the_page_says_when_and_how_it_was_made(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    directory = tmp_path / "run"
    assert "took" not in text(page_of(directory, plan, environment, rows, of_rows(rows)))
    run = RunDirectory(directory)
    events = WorkerStarted(1, time=60.0), RunEnded(State.COMPLETED, time=150.0)
    write_atomic(run.events, b"".join(map(EVENTS.encode, events)))
    write_atomic(directory / "command.txt", "python -m runner model=<b> 'task.names=[a]'\n")
    outcome = Outcome(State.COMPLETED, tasks=(of_rows(rows),))
    page = render(run, plan, environment, outcome, judge(outcome, (asked(),), VerdictConfig()))
    assert "1970-01-01 00:01 UTC , took 90 s" in text(page)
    said = page.partition("<h2>Reproduce</h2>")[2]
    assert "<pre>python -m runner model=&lt;b&gt; &#39;task.names=[a]&#39;</pre>" in said


def test_the_link_to_mlflow_is_put_where_it_belongs_and_replaced(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    page = page_of(tmp_path, plan, environment, rows, of_rows(rows))
    assert "MLflow</a>" not in page
    local = linked(page, "http://127.0.0.1:5000/#/a?b=1&c=<2>", "mlflow ui")
    assert '<a href="http://127.0.0.1:5000/#/a?b=1&amp;c=&lt;2&gt;">This run in MLflow</a>' in local
    assert "first run <code>mlflow ui</code>" in local
    elements(local)
    moved = linked(local, "https://server/#/x", "")
    assert moved.count("MLflow</a>") == 1 and "https://server/#/x" in moved
    assert "first run" not in moved
    assert linked("<html>of an older version</html>", "x", "") == "<html>of an older version</html>"


def test_tables_and_pictures_are_named_for_who_cannot_see_them(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    page = page_of(tmp_path, plan, environment, rows, of_rows(rows))
    headers = re.findall(r"<th\b[^>]*>", page)
    assert headers and all('scope="' in each for each in headers)
    for tag in (
        *re.findall(r"<svg\b[^>]*>", page),
        *re.findall(r'<div class="(?:strip|laps)[^>]*>', page),
    ):
        label = re.search(r'aria-label="([^"]*)"', tag)
        assert label is not None and re.search(r"\d", label[1]), tag


def test_a_strip_stays_on_its_line() -> None:
    line = scale([0.9, 1.0], (0.0, 1.0))
    assert line.high == 1.0
    strip = line.strip(0.95, (0.5, 1.2), None)
    assert (strip.low, strip.high, strip.mark) == (0.0, 100.0, None)
    assert line.strip(0.95, None, 0.9, (0.92, None)).band == (line.place(0.92), 100.0)
    assert line.strip(0.95, None, 0.9).band is None
    assert scale([]).low < scale([]).high
    assert scale([3.0, 3.0]).low < 3.0 < scale([3.0, 3.0]).high


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_drawn_nowhere(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow], value: float
) -> None:
    task = of_rows(rows)
    broken = replace(task.metrics[0], value=value)
    page = page_of(
        tmp_path, plan, environment, rows, replace(task, metrics=(broken, *task.metrics[1:]))
    )
    assert text(page).startswith("FAILED fixed failed:")
    assert "nan%" not in page and "inf%" not in page


def test_what_was_not_measured_is_said(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    task = of_rows(rows)
    page = page_of(tmp_path, plan, environment, rows, replace(task, metrics=task.metrics[1:]))
    assert "missing" in text(page)


def test_of_scored_choices_the_numbers_are_shown(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    scored = [
        replace(
            each,
            choice_logprobs=[-1.5, -2.25],
            responses=["(-1.5, False)", "(-2.25, False)"],
            token_ids=[],
            logprobs=[],
            margins=[],
        )
        for each in rows
    ]
    said = text(page_of(tmp_path, plan, environment, scored, of_rows(scored)))
    assert "Log-likelihood of each choice -1.500, -2.250 Correct answer: A , score 0" in said
    assert "Answer length" not in said and "Prompt length" in said


def test_a_value_of_nought_is_a_value(
    tmp_path: Path, plan: Plan, environment: Environment, rows: list[SampleRow]
) -> None:
    wrong = [replace(each, scores={"acc": 0.0}) for each in rows]
    said = text(page_of(tmp_path, plan, environment, wrong, of_rows(wrong)))
    assert said.startswith("FAILED fixed failed: mmmu_val acc 0.000 ± 0.020 (baseline 0.6).")
