"""Everything that the report, the list of samples and the terminal say can be translated.

The words that remain in the pseudo-language are names of data, statuses, keys and units.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from gettext import NullTranslations
from html import unescape
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runner import language
from runner.channel.worker import (
    EngineStarted,
    Heartbeat,
    Looked,
    Progress,
    Retry,
    Stage,
    StageBegun,
    TaskFinished,
    Warned,
)
from runner.config.verdict import VerdictConfig
from runner.environment import Environment
from runner.evidence import degenerate
from runner.evidence.outlines import read_outlines
from runner.lm.sample_table import SampleRow, sample_table, write_samples
from runner.look import Look
from runner.memory import Estimate, Layout, Room, describe
from runner.outcome import (
    Degeneracy,
    Degenerate,
    Departure,
    Feeding,
    Outcome,
    Repeated,
    State,
    TaskOutcome,
)
from runner.plan import Plan, ReplayPlan
from runner.present import browser_texts, formats
from runner.present.browser import Browser, Detail, Listing, Side, browser
from runner.present.mlflow_link import END, START, linked
from runner.present.template import template
from runner.report import markdown, progress, run_page, terminal
from runner.report.answers import shortened
from runner.report.browsed import browsed
from runner.report.progress import ProgressDisplay
from runner.report.run_findings import findings, headline
from runner.report.serving import serving
from runner.report.stack import engine_settings, vllm_version
from runner.rundir import RunDirectory
from runner.served import (
    Check,
    FirstToken,
    Health,
    Latency,
    Served,
    ServerWork,
    Speculation,
    Speed,
)
from runner.status import Status
from runner.tracking.tracked import TrackedRun
from runner.verdict import Verdict, gates, judge
from tests.pseudo import Bracketing, speak_pseudo, untranslated, untranslated_in_page
from tests.unit.test_page import LEAVES, asked, of_rows, row

SCRIPT = Path(run_page.__file__).parents[1] / "templates" / "browser.js"
# Names and values of the run, statuses, keys and units.
NAMES = {
    *("fixed", "mmmu", "val", "art", "physics", "law", "acc", "none", "task", "limit"),
    *("ACLGraph", "Ascend", "Linux", "PyTorch", "Python", "TorchNPU", "Transformers"),
    *("accuracy", "ascend", "bfloat", "cann", "driver", "eval", "firmware", "len", "lm", "max"),
    *("model", "npu", "post", "rc", "runner", "torch", "transformers", "vllm"),
}
WORK = ServerWork(
    preemptions=3,
    prefix_queries=100,
    prefix_hits=40,
    prompt_tokens=100,
    generation_tokens=50,
    finished={"stop": 5},
    speculation=Speculation(10, 20, 10),
    first_token_s=0.1,
    later_token_s=0.01,
    restarted=True,
)
SERVED = Served(
    "0.23.0",
    "fixed",
    "/weights",
    "$ 1",
    asked=10,
    answered=10,
    retried={"503": 2},
    different=2,
    first_difference="1 / 2",
    unverified=3,
    shortened=1,
    reasoned=1,
    answered_by={"fixed": 3, "canary": 2},
    missing={"token ids": 2, "log-probabilities": 1},
    identity="= 1",
    health=Health(Check(Status.PASSED, "1"), Check(Status.FAILED, "2"), 20),
    latency=Latency(1, 2, 3, 4),
    first_token=FirstToken(1, 2, 3),
    speed=Speed(3, 2, 1),
    work=WORK,
)


@pytest.fixture(autouse=True)
def pseudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other packages say is tested with them."""
    speak_pseudo(monkeypatch)
    monkeypatch.setattr(gates, "said", lambda gate, baseline: "…")


def samples() -> list[SampleRow]:
    """Samples with everything that can be wrong with one."""
    own = [
        row(task, place, float(place % 2), prompt=f"{place}?", target=f"{place}")
        for task in LEAVES
        for place in range(9)
    ]
    faults: list[dict[str, Any]] = [
        {"degenerate": [each.value for each in Degeneracy]},
        {"guessed": True, "filtered": "[invalid]"},
        {"filtered": "[invalid]"},
        {"truncated": True, "prompt": "?" * 9000},
        {"finish_reasons": ["length"], "cut_thinking": 1, "reasoning": ["…"]},
        {"image_hashes": ["0123"], "image_sizes": ["1x1"], "seconds": [0.5]},
        {"choice_logprobs": [-1.0, -2.0], "responses": ["1", "2"], "prompt": "?"},
        {"choice_logprobs": [-1.0], "finish_reasons": ["length"] * 2, "responses": ["1"]},
    ]
    for place, fault in enumerate(faults):
        own[place] = replace(own[place], scores={"acc": 0.0}, **fault)
    return own


def task_of(rows: list[SampleRow]) -> TaskOutcome:
    """A task with everything that can be wrong with one."""
    task = of_rows(
        rows,
        truncated=1,
        refused=1,
        cut_answers=2,
        cut_thinking=1,
        thought_only=1,
        unmatched=1,
        unparsable=2,
        guessed=1,
        whole=100,
        greedy_by_default=1,
        drawn=1,
        output_tokens=100,
    )
    kinds = tuple(Degenerate(kind, 1, "mmmu_val_art", 1) for kind in Degeneracy)
    departure = Departure("x", "the task does not apply the chat template", 1, "mmmu_val_art", 1)
    lucky = tuple(replace(each, luck=0.1) for each in task.metrics)
    return replace(
        task,
        expected=task.expected + 1,
        degenerate=kinds,
        departures=(departure,),
        metrics=lucky,
    )


def judged(outcome: Outcome, plan: Plan) -> Verdict:
    """A verdict without the words of a rule."""
    found = judge(outcome, plan.evaluations, VerdictConfig())
    metrics = tuple(
        replace(each, reason="=", tolerated=None, detectable=None, baseline_origin="")
        for each in found.metrics
    )
    return replace(found, reason="=", metrics=metrics)


@pytest.fixture
def rich(plan: Plan) -> Plan:
    return replace(
        plan,
        environment={},
        evaluations=(asked(0.6),),
        overruled=("(1)",),
        python="/p",
        engine_args={**plan.engine_args, "trust_remote_code": True},
        weights="3f" * 32,
    )


@pytest.fixture
def of_rich(outcome: Outcome) -> Outcome:
    return replace(
        outcome,
        tasks=(task_of(samples()),),
        timings={"load_tasks_s": 1.0, "start_engine_s": 2.0, "evaluate_s": 3.0},
        retries=("(1)",),
        feeding=Feeding(256, 14, 600, 5, 2.0, 0.5, 0.5),
        served=SERVED,
        speculation=Speculation(10, 20, 10),
    )


@pytest.fixture
def machine(environment: Environment) -> Environment:
    return replace(
        environment,
        commits={},
        runner={"torch": "2.9.0"},
        project_dirty=True,
        variables={"VLLM_USE_V1": "1"},
    )


def written(directory: Path, rows: list[SampleRow]) -> RunDirectory:
    run = RunDirectory(directory)
    run.claim()
    write_samples(run.samples, [sample_table(rows)])
    return run


def rest(found: Iterable[str], *names: str) -> set[str]:
    return {word for text in found for word in untranslated(text)} - NAMES - {*names}


def unpacked(block: bytes) -> Any:
    return json.loads(zlib.decompress(block, wbits=31))


def listed(found: Browser) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The list, and the details of its samples."""
    details = [each for block in found.texts.packed for each in unpacked(block)]
    return unpacked(found.index)["listing"], details


# The report


def test_the_page(tmp_path: Path, rich: Plan, of_rich: Outcome, machine: Environment) -> None:
    rows = samples()
    run = written(tmp_path / "1", rows)
    verdict = judged(of_rich, rich)
    page = run_page.render(run, rich, machine, of_rich, verdict, log_tail="…")
    names = {word for part in run.path.parts for word in re.findall("[A-Za-z]{2,}", part)}
    assert untranslated_in_page(page) - NAMES - names == set()
    assert '<html lang="zh">' in page


def test_a_page_of_a_failed_run(
    tmp_path: Path, rich: Plan, of_rich: Outcome, machine: Environment
) -> None:
    run = written(tmp_path / "1", samples())
    broken = replace(of_rich, state=State.ERROR, reason="(1)", engine={}, timings={})
    for status in Status:
        verdict = replace(judged(broken, rich), status=status)
        assert rest([headline(rich, broken, verdict)]) == set()
    page = run_page.render(run, rich, machine, broken, verdict, log_tail="…")
    names = {word for part in run.path.parts for word in re.findall("[A-Za-z]{2,}", part)}
    assert untranslated_in_page(page) - NAMES - names == set()


def test_the_markdown_report(rich: Plan, of_rich: Outcome, machine: Environment) -> None:
    verdict = judged(of_rich, rich)
    broken = replace(of_rich, state=State.ERROR)
    report = markdown.render(rich, machine, broken, verdict, log_tail="…", command="$ 1")
    text = re.sub(r"```.*?```", "", report, flags=re.DOTALL)
    assert rest([text], "venv", "PASSED", "fp") == set()


def test_sentences_of_a_run_that_went_well(
    rich: Plan, outcome: Outcome, environment: Environment
) -> None:
    rows = [row(task, place, 1.0) for task in LEAVES for place in range(3)]
    well = replace(outcome, tasks=(of_rows(rows),))
    verdict = judged(well, rich)
    assert rest(findings(rich, well, verdict)) == set()
    assert rest(findings(replace(rich, replay=ReplayPlan("", "")), well, verdict)) == set()
    many = replace(verdict, metrics=verdict.metrics * 4)
    assert rest([headline(rich, well, many)]) == set()
    for runtime in ("vllm", "transformers"):
        own = replace(rich, runtime=runtime)
        engine = {**well.engine, "transformers": "5", "attention": "sdpa"}
        for resolved in ({}, engine):
            said = engine_settings(own, replace(well, engine=resolved))
            assert (
                rest([said, vllm_version(own, replace(environment, commits={}))], "sdpa") == set()
            )


@pytest.mark.parametrize("looked", [Look(1, 1), Look(2, 5)])
def test_sentences_of_part_of_a_run(rich: Plan, outcome: Outcome, looked: Look) -> None:
    rows = samples()
    repeated = Repeated(4, 0.1, 0.1, {1: 0.5, 2: 0.6}, 0.5, 0.3, 0.3)
    plain = replace(task_of(rows), samples=4, look=looked)
    for each in (repeated, Repeated(4, 0.1, 0.1)):
        metrics = tuple(replace(metric, repeated=each) for metric in plain.metrics)
        part = replace(outcome, tasks=(replace(plain, metrics=metrics),))
        verdict = judged(part, rich)
        said = [*findings(rich, part, verdict), headline(rich, part, verdict)]
        assert rest(said, "pass", "verdict", "sequential", "maj", "avg") == set()


def test_what_a_server_did() -> None:
    assert rest(chain(*serving(SERVED))) == set()
    bare = replace(SERVED, version=None, latency=None, work=replace(WORK, prefix_hits=None))
    assert rest(chain(*serving(bare), bare.doubts)) == set()
    assert rest(SERVED.doubts, "think", "end", "token") == set()
    assert rest([Speculation(0, 0, 0).said]) == set()


# The list of samples


def test_the_list_of_samples(tmp_path: Path, rich: Plan, of_rich: Outcome) -> None:
    """Its filters have names of their own in the page's address."""
    run = written(tmp_path, samples())
    found = browsed(run, of_rich, judged(of_rich, rich), read_outlines(run.samples))
    assert found is not None
    listing, details = listed(found)
    shown = [each["label"] for each in (*listing["columns"], *listing["choices"])]
    shown += [each[name] for each in listing["flags"] for name in ("label", "meaning")]
    facts = [fact for each in details for side in each["sides"] for fact in side["facts"]]
    assert facts and rest([*shown, *facts, *listing["values"]["answer"]], "invalid") == set()
    assert [each["name"] for each in listing["flags"]] == [
        "wrong",
        "cut",
        "unparsable",
        "degenerate",
    ]


@pytest.mark.parametrize("unit", ["samples", "questions"])
def test_the_script_has_its_texts_from_the_page(unit: str) -> None:
    texts = json.loads(browser_texts.texts(unit))
    assert rest(texts.values()) == set()
    script = SCRIPT.read_text(encoding="utf-8")
    used = set(re.findall(r'say\("(\w+)"', script))
    for choice in re.findall(r'say\(\w+ \? "(\w+)" : "(\w+)"', script):
        used |= {*choice}
    assert used == set(texts)


@pytest.mark.parametrize(("longest", "hidden"), [(None, 0), (0, 3), (40, 3)])
@pytest.mark.parametrize("unit", ["samples", "questions"])
def test_what_stands_above_the_list(longest: int | None, hidden: int, unit: str) -> None:
    listing = Listing((), {"doc": [0]}, (), (), ())
    found = browser(listing, lambda: [(0, Detail("", "", sides=(Side(),)))], {})
    cut = replace(found, longest=longest, hidden=hidden)
    for view in ("", "$ 1"):
        page = template("browser.html.j2").render(browser=cut, unit=unit, view=view, served=False)
        assert untranslated_in_page(page) == set()
        texts = re.search(r'data-texts="([^"]*)"', page)
        assert texts and json.loads(unescape(texts[1])) == json.loads(found.texts_of(unit))


# The terminal


def printed(show: Callable[[terminal.Screen], None], width: int = 120) -> str:
    sink = StringIO()
    show(terminal.Screen(file=sink, width=width, highlight=False, markup=False, soft_wrap=True))
    return sink.getvalue()


@pytest.mark.parametrize("width", [120, 100])
def test_the_verdict(rich: Plan, of_rich: Outcome, width: int) -> None:
    verdict = judged(of_rich, rich)
    missing = replace(verdict.metrics[0], value=None, stderr=None, interval=None)
    verdict = replace(verdict, metrics=(missing, *verdict.metrics * 4))

    def show(out: terminal.Screen) -> None:
        terminal.show_verdict(out, rich.model, verdict, "")
        terminal.show_matters(out, of_rich)
        terminal.show_gates(out, rich, of_rich, verdict)
        terminal.show_departures(out, of_rich)
        terminal.show_feeding(out, of_rich)
        for status in (verdict.status, Status.PASSED, Status.FAILED):
            terminal.show_point(out, replace(verdict, status=status), "")

    said = " ".join(printed(show, width).split())
    assert rest([said]) == set()


def test_where_the_reports_are(tmp_path: Path) -> None:
    page = tmp_path / "1.html"

    def show(out: terminal.Screen) -> None:
        terminal.show_reports(out, Path("1"), page)
        page.touch()
        terminal.show_reports(out, Path("1"), page)
        terminal.show_tracked(out, TrackedRun("sqlite:///1", "1", "1", "1"))

    said = printed(show)
    assert said.splitlines()[:2] == ["⟦report: 1⟧", "⟦report: 1 (also: 1.html)⟧"]
    assert (
        rest(
            said.splitlines()[2:],
            "http",
            "experiments",
            "runs",
            "workflowType",
            "MLflow",
            "machine",
            "learning",
        )
        == set()
    )


def test_the_plan(rich: Plan) -> None:
    limited = replace(rich.evaluations[0], limit=20.0)
    bare = replace(
        rich,
        evaluations=(replace(limited, baselines={}),),
        engine_args={"pretrained": "/w", "dtype": "x"},
    )

    def show(out: terminal.Screen) -> None:
        for each in (rich, bare):
            terminal.show_plan(out, each, "", None)
        terminal.show_prospect(out, {"gsm8k": 3}, ["…"])
        terminal.show_preflights(out, [("0", "1", "2")])

    said = printed(show, 300)
    lines = [each for each in said.splitlines() if "lm_eval" not in each]
    assert rest(lines, "weights") == set()


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=StringIO(), width=200, highlight=False, markup=False, emoji=False)
    engine = {"model": "fixed", "dtype": "1", "max_model_len": 1, "num_gpu_blocks": 1}
    with ProgressDisplay(console) as display:
        for stage in Stage:
            display.show(StageBegun(stage))
        for event in (
            EngineStarted(engine),
            Warned("1"),
            Looked("gsm8k", 1, 2, 3, 4),
            Retry(1, 2, "1"),
            Progress("gsm8k", 1, 1, 0, 2),
            Heartbeat(steps=1, seconds_left=3.0, tokens=100),
            Progress("gsm8k", 1, 1, 1, 2),
            Progress("gsm8k", 1, 1, 2, 2),
            TaskFinished("gsm8k", 1.0),
        ):
            monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_S", 0)
            display.show(event)
    assert isinstance(console.file, StringIO)
    assert rest(console.file.getvalue().splitlines()) == set()


# Shared by all pages


def test_numbers_and_cut_texts() -> None:
    assert formats.interval((0.1, 0.2), 1) == "⟦0.1 to 0.2⟧"
    assert formats.of(12, 600) == "⟦12 (2.0 %)⟧"
    assert rest([formats.clip("1" * 100, 10), shortened("1" * 9000)]) == set()
    assert rest([degenerate.named(["empty", "empty", "repeating"])]) == set()


def test_the_memory_of_an_engine() -> None:
    estimate = Estimate(1, 2, 3, 4, ("state of the linear-attention layers not counted",))
    rooms = (None, Room(1 << 36, 0.9), Room(1 << 36, 0.9, None, 1 << 37))
    layout = Layout(tp=1, pp=1)
    assert rest(describe(estimate, layout, room) for room in rooms) == set()


def test_the_link_is_in_the_language_of_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run can be uploaded by a command in another language."""
    page = f'<html lang="zh">{START}{END}'
    assert untranslated_in_page(linked(page, "http://1", "mlflow ui")) == set()
    monkeypatch.setattr(language, "_translations", lambda chosen: catalogues[chosen])
    catalogues = {"zh": Bracketing(), "en": NullTranslations()}
    assert "⟦This run in MLflow⟧" in linked(page, "http://1", "")
    assert "⟦" not in linked(page.replace("zh", "en"), "http://1", "mlflow ui")
    assert language.language() == "zh"
