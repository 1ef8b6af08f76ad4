"""Suites and histories in another language: everything is translated, nothing relies on English."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runner.channel.sender import FindAlias
from runner.config.notify import NotifyConfig
from runner.history import page as history_page
from runner.history import screen as history_screen
from runner.history.judging import decided, judge
from runner.history.result import Flips, History, Series, State
from runner.history.runs import Metric, Run
from runner.history.series import collect
from runner.history.summary import summary
from runner.plan import Plan
from runner.rundir import read_json, write_json
from runner.suite import (
    collecting,
    decision,
    entries,
    following,
    markdown,
    news,
    notification,
    pooled,
    receivers,
    result,
)
from runner.suite import page as suite_page
from runner.suite.entries import Asked
from runner.suite.finish import finish, judged
from runner.suite.following import Step
from runner.suite.nights import Night
from runner.suite.result import EntryResult, Measured, SuiteResult
from runner.sweep.record import point_directory
from runner.sweep.summary import read_sweep
from runner.tracking.courier import Courier
from runner.tracking.sender_process import NotSent
from runner.tracking.tracked import TrackedRun
from tests.pseudo import speak_pseudo, untranslated, untranslated_in_page
from tests.suites import Played, night, right
from tests.sweeps import Found

# Entries are e1, e2, …, models m1, m2, …, and tasks t1, t2, …: no words. Names of metrics and
# versions, and the command, are the same in all languages.
NAMES = {"acc", "paired", "isclose", "vllm", "torch", "lm", "eval", "Python", "MLflow", "Holm"}
# Translated elsewhere: the interval of runner.present.formats.
NAMES |= {"to"}
DAY, START = 86_400.0, 1_793_491_200.0


@pytest.fixture(autouse=True)
def pseudo(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_pseudo(monkeypatch)


def measured(verdict: str, p: float | None, rule: str = "paired", **other: Any) -> Measured:
    plain = Measured(
        *("t1", "acc", "none", verdict, 0.8, 0.01, (0.7, 0.9), 100, None, 0.8, 0.0, None, rule, p)
    )
    return replace(plain, **other)


def entry(number: int, verdict: str = "PASSED", *metrics: Measured, **other: Any) -> EntryResult:
    status = {"PASSED": 0, "UNJUDGED": 0, "FAILED": 3, "INCONCLUSIVE": 4}.get(verdict, 2)
    plain = EntryResult(
        *(f"e{number}", number, f"m{number}", "t1", "required", verdict, status, False),
        *("", (), None, metrics[0] if metrics else None, metrics, 60.0, f"{number}"),
        *(f"{number}/report.md", "", "", "", ""),
    )
    return replace(plain, **other)


FAILED = measured("FAILED", 0.001)
GOOD = result.GoodNight("2026-11-20/22-10-11", "/nights/1", 0.0, 0.9, True, -0.1)


def rich() -> SuiteResult:
    """A night in which everything happens that a page shows."""
    found = decision.adjusted(
        [
            entry(1, "PASSED", measured("PASSED", 0.4), last_good=GOOD, mlflow="http://m/1"),
            entry(2, "FAILED", FAILED, reason="", last_good=replace(GOOD, same=False)),
            entry(3, "FAILED", measured("FAILED", None, "isclose", n=5, whole=10)),
            entry(4, "NOT RUN", missing=True, metrics=(), seconds=None, report=""),
            entry(5, "INCONCLUSIVE", measured("INCONCLUSIVE", None, baseline=None)),
            entry(6, "FAILED", FAILED, measured("FAILED", None, "isclose", filter="f1")),
            entry(7, "FAILED", replace(FAILED, value=None), tier="advisory"),
            entry(8, "UNJUDGED", tier="required"),
        ]
    )
    test = result.Pooled(pooled.REFERENCES, ("e1",), 1, 100, 0.02, 2, 0, 0.001, 0.01, True)
    return SuiteResult(
        *(1, "s", "2026-11-22/22-10-11", 0.0, 60.0, decision.verdict(found)),
        *(decision.exit_status(found), decision.sentence("s", found), tuple(found)),
        pooled=(test,),
        joint=(*decision.joint(found), pooled.told(test)),
        versions={"vllm": ("0.32", "0.33"), "hardware": ("910B",)},
        engine_starts=3,
        engine_starts_saved=2,
        command="python -m runner suite=s",
    )


@pytest.mark.parametrize("starts", [(3, 2), (1, 0), (0, 0)])
def test_the_page_of_a_night(starts: tuple[int, int]) -> None:
    found = replace(rich(), engine_starts=starts[0], engine_starts_saved=starts[1])
    page = suite_page.render(found, Path("/"), "http://m/2", "make serve")
    assert 'lang="zh"' in page
    assert untranslated_in_page(page) <= NAMES


def test_the_other_outputs_of_a_night() -> None:
    text = StringIO()
    from runner.suite.screen import show

    show(Console(file=text, width=300), rich())
    assert untranslated(text.getvalue()) <= NAMES
    page = markdown.page(rich()).replace("python -m runner suite=s", "")
    assert untranslated(page) <= NAMES | {"report", "md", "bash"}


def test_the_sentences_of_a_suite() -> None:
    passed, failed = entry(1, "PASSED", measured("PASSED", 0.4)), entry(2, "FAILED", FAILED)
    advisory = [replace(failed, name=f"e{n}", tier="advisory") for n in range(6)]
    cases: Sequence[Sequence[EntryResult]] = (
        [passed],
        [passed, passed],
        [passed, entry(8, "UNJUDGED")],
        [failed],
        [failed] * 6,
        advisory,
        advisory[:1],
        [passed, entry(3, "PASSED", measured("PASSED", None, "isclose"))],
        [passed, passed, entry(3, "PASSED", measured("PASSED", None, "isclose"))],
        [passed, entry(3, "FAILED", FAILED), entry(4, "FAILED", FAILED)],
        [entry(3, "FAILED", replace(FAILED, p=0.04))] * 3,
    )
    for case in cases:
        found = decision.adjusted(case)
        lines = [decision.sentence("s", found), decision.advice(found), *decision.joint(found)]
        assert untranslated(" ".join(lines)) <= NAMES


def finished(directory: Path) -> tuple[str, SuiteResult]:
    text = StringIO()
    finish(directory, Console(file=text, width=300, soft_wrap=True))
    return text.getvalue(), result.read(directory)


def test_nights_that_follow_each_other(tmp_path: Path) -> None:
    """From the directories on: last good nights, the pooled test, what is left out of it."""
    played = [Played("e1", Found(right(81))), Played("e2", Found(right(80)), tier="advisory")]
    finished(night(tmp_path, played, "2026-11-01", 1000.0))
    played = [
        *(Played("e1", Found(right(60))), Played("e2", Found(right(40, of=50)), tier="advisory")),
        *(Played("e3", Found(right(80))), Played("e4"), Played("e5", Found([5.0] * 9))),
    ]
    directory = night(tmp_path, played, "2026-11-02", 2000.0)
    screen, found = finished(directory)
    assert any(line.startswith("⟦Pooled test against") for line in found.joint)
    # Most reasons are those of the verdicts, which another test has.
    sweep = replace(read_sweep(directory), points=())
    lost = [each.reason for each in collecting.collect(entries.read(directory), sweep)]
    assert untranslated(" ".join((found.sentence, *found.joint, *lost))) <= NAMES
    assert "⟦report: ⟧" in screen and "other evaluation" in (directory / "suite.md").read_text()
    point_directory(directory, 0).samples.unlink()
    assert untranslated(" ".join(judged(read_sweep(directory)).joint)) <= NAMES | {
        *("samples", "parquet", "No", "such", "file", "or", "directory", "Errno")
    } | set(directory.parts)


# Notifications


def test_the_news_of_a_night() -> None:
    now = rich()
    steady = Night(Path("/1"), now)
    calm = replace(
        now,
        pooled=(),
        id="2026-11-21/22-10-11",
        entries=tuple(replace(e, verdict="PASSED", missing=False) for e in now.entries),
    )
    before = replace(calm, entries=(*calm.entries[1:], entry(9)))
    for nights in ([], [steady, steady], [Night(Path("/2"), calm)], [Night(Path("/3"), before)]):
        assert untranslated(" ".join(news.news(now, nights))) <= NAMES
    lines = receivers.fitted([str(each) * 100 for each in range(100)], 2048)
    assert "⟦… and" in lines and untranslated(lines) == set()


def test_who_was_told_is_known_in_every_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night in one language after a night in another is no news."""
    monkeypatch.setattr(receivers, "mail", lambda *_: None)
    notify = NotifyConfig()
    notify.email.to = ["a@b"]
    told = []
    for day in (1, 2):
        played = [Played("e1", Found(right(80))), Played("e2")]
        directory = night(tmp_path, played, f"2026-11-0{day}", float(day))
        asked: Asked = entries.read(directory)
        write_json(directory / entries.NAME, replace(asked, notify=notify))
        result.write(directory, judged(read_sweep(directory)))
        text = StringIO()
        notification.notify(directory, Console(file=text, width=200))
        told.append(text.getvalue())
        monkeypatch.undo()  # English again
        monkeypatch.setattr(receivers, "mail", lambda *_: None)
    first, second = told
    assert first == "⟦notified: ⟦e-mail to a@b⟧⟧\n"
    assert second == "nobody was notified: no verdict changed\n"


# References that follow


def test_the_doubts_about_a_night() -> None:
    tonight = replace(rich(), exit_status=0, pooled=())
    own = entry(1, "PASSED", measured("PASSED", 0.4))

    def doubt(count: int = 2, before: SuiteResult = tonight, **changes: Any) -> str:
        then = replace(own, **changes)
        nights = [
            Night(Path("/2"), replace(tonight, entries=(own,))),
            Night(Path("/1"), replace(before, entries=(then,))),
        ]
        return following.doubt(own, nights, count)

    found = [
        following.doubt(replace(own, tier="advisory"), [], 1),
        doubt(3),
        doubt(before=replace(tonight, exit_status=3)),
        doubt(before=replace(tonight, pooled=rich().pooled)),
        doubt(missing=True),
        doubt(verdict="FAILED"),
        doubt(metrics=(measured("PASSED", 0.4, n=5, whole=10),)),
        doubt(metrics=(measured("PASSED", 0.4, "replay"),)),
        doubt(evaluation_fingerprint="x"),
        doubt(engine_fingerprint="x"),
    ]
    assert doubt() == "" and all(found)
    assert untranslated(" ".join(found)) == set()


def test_what_became_of_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = night(tmp_path / "1", [Played("e1", Found(right(80))), Played("e2", None)])
    plan: Plan = read_json(point_directory(directory, 0).plan, Plan)
    write_json(point_directory(directory, 0).plan, replace(plan, model="m1"))
    write_json(point_directory(directory, 0).tracked, TrackedRun("http://h", "x", "1", "0f"))
    result.write(directory, replace(judged(read_sweep(directory)), exit_status=0))
    courier = Courier()

    def ask(request: object, timeout_s: float) -> object:
        return "" if isinstance(request, FindAlias) else ()

    def failing(run: str) -> None:
        raise NotSent("404")

    monkeypatch.setattr(courier, "ask", ask)
    moved = following.follow(directory, "a1", 1, courier, lambda _: None)
    steps = [*moved, *following.follow(directory, "a1", 1, courier, failing)]
    drifted = result.Pooled(pooled.FIRST, ("e1",), 1, 100, 0.02, 2, 0, 0.001, 0.01, False)
    steps.append(Step("e1", steps[1].doubt, drift=drifted))
    text = StringIO()
    following.show(Console(file=text, width=300), steps, "a1")
    shown = text.getvalue()
    assert "a1 updated" in shown and "not possible" in shown
    assert untranslated(shown) == set()


# Histories


def runs(values: Sequence[float | None], **other: Any) -> list[Run]:
    """Nights of a run with one metric; None: without a result."""
    plain = Run(
        name="/1",
        directory=None,
        started=START,
        verdict="PASSED",
        model="m1",
        tasks="t1",
        settings={},
        versions={"vllm": "0.31", "weights": "1f"},
        metrics={},
        partial=frozenset(),
    )
    return [
        replace(
            plain,
            started=START + number * DAY,
            verdict="PASSED" if value else "ERROR",
            metrics={"t1/acc": Metric(value, 600, (0.5, 0.9), (0.6, None), judged=True, main=True)}
            if value
            else {},
            **other,
        )
        for number, value in enumerate(values, start=1)
    ]


def series(
    values: Sequence[float | None], flips: Flips | None = None, lower: bool = False
) -> Series:
    (collected,) = collect(runs(values))
    collected = replace(collected, higher_is_better=not lower)
    return decided(judge(collected), lambda good, bad, series: flips)


FLIPS = Flips(pairs=600, changed=30, worse=26, better=0, p=1e-8, p_adjusted=1.0)
CASES: tuple[tuple[list[float | None], bool, Flips | None], ...] = (
    ([0.9] * 19 + [0.86] * 11, False, None),
    ([0.1] * 19 + [0.14] * 11, True, None),
    ([0.9] * 10 + [None] * 9 + [0.9] * 9 + [0.86] * 5, False, None),
    ([0.9] * 29 + [0.86], False, None),
    ([0.1] * 29 + [0.14], True, None),
    ([0.9] * 29 + [0.86], False, FLIPS),
    ([0.9] * 15 + [0.86] * 8 + [0.9] * 8, False, None),
    ([0.1] * 15 + [0.14] * 8 + [0.1] * 8, True, None),
    ([0.9 - 0.002 * number for number in range(30)], False, None),
    ([0.8] * 15 + [0.9] * 4 + [0.01], False, None),
    ([0.9] * 10 + [0.92] * 5 + [0.9] * 10, False, None),
    ([0.9] * 15 + [0.85] * 5 + [0.9] * 10 + [0.01], False, None),
    ([0.9] * 20 + [None], False, None),
    ([0.9] * 15 + [0.8] * 8 + [0.9] * 8 + [None] * 3, False, None),
    ([0.9, 0.8], False, None),
    ([0.9], False, None),
    ([0.9] * 12 + [0.91], False, None),
)
VERSIONS = ("weights", "runner commit", "python", "reference run", "prompts of t1", "vllm", "torch")


def every() -> list[Series]:
    """A series for each sentence."""
    found = [series(values, flips, lower) for values, lower, flips in CASES]
    changed = runs([0.9] * 19 + [0.86] * 11)
    for number in (17, 19):
        changed[number:] = [
            replace(each, versions=dict.fromkeys(VERSIONS[: number - 13], str(number)))
            for each in changed[number:]
        ]
    found.append(decided(judge(*collect(changed)), lambda *_: None))
    return found


def trends() -> list[Series]:
    """What is not accuracy, all of it getting worse."""
    names = {
        "perf/output_tokens_per_s": (900.0, -300.0),
        "perf/start_engine_s": (60.0, 40.0),
        "t1/degenerate": (0.01, 0.2),
        "t1/logprob_shift/median": (0.001, 0.02),
    }
    measured = [
        replace(
            each,
            metrics={
                name: Metric(first + change * (number > 15), main=True)
                for name, (first, change) in names.items()
            },
        )
        for number, each in enumerate(runs([0.9] * 30))
    ]
    return [judge(each) for each in collect(measured)]


def history(*found: Series, **other: Any) -> History:
    plain = History("/s", 30, "2026-11-01", "2026-11-30", 0.01, found, ("/1: [1]", "/2: [2]"))
    return replace(plain, **other)


def test_the_sentences_of_a_history() -> None:
    found = [*every(), *trends()]
    assert {each.state for each in found} == set(State)
    for each in found:
        assert untranslated(" ".join((each.headline, *each.findings))) <= NAMES
    bad, good, few = found[0], judge(*collect(runs([0.9] * 20))), found[14]
    (check, *_) = (each for each in found if each.state is State.CHECK)
    cases: Sequence[Sequence[Series]] = (
        *([bad], [bad, bad], [check], [check, check], [good], [good, few], [few], []),
        *(trends(), [bad, *trends()], [check, *trends()[:1]]),
    )
    for case in cases:
        said = summary(history(*case))
        assert said.startswith("⟦") and untranslated(said) <= NAMES


def test_the_page_of_a_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [replace(each, commands=("python -m x",)) for each in (every()[-1], *trends())]
    monkeypatch.setattr(history_page, "ROWS", 20)
    monkeypatch.setattr(history_page, "LISTED", 4)
    monkeypatch.setattr(history_page, "CHARTS", 4)
    history_page.write(tmp_path, history(*found), "1")
    page = (tmp_path / "history.html").read_text()
    assert 'lang="zh"' in page
    # The metric of a series has its own name.
    known = NAMES | {"logprob", "shift", "median"}
    assert untranslated_in_page(page) <= known
    text = (tmp_path / "history.md").read_text()
    assert untranslated(text.replace("python -m x", "")) <= known | {"bash"}


def test_the_terminal_shows_a_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_screen, "ROWS", 3)
    found = [replace(each, commands=("/1",)) for each in (every()[-1], *trends())]
    for first in ("2026-11-01", ""):
        text = StringIO()
        out = Console(file=text, width=300)
        history_screen.show(out, history(*found, first=first))
        history_screen.show_page(out, Path("/"))
        # The link has the name of the machine, or is the file's path.
        assert untranslated(text.getvalue()) <= NAMES | {
            *("logprob", "shift", "median", "history", "html")
        }
