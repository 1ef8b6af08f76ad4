"""The end of a suite: tiers, missing entries, the last good night, the tests of all together."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from runner import sync
from runner.config.schema import RunConfig
from runner.environment import Environment
from runner.outcome import Outcome, State
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json, write_json
from runner.stats.several import holm
from runner.suite import decision, entries, junit, pooled, result
from runner.suite.finish import finish
from runner.suite.result import EntryResult, SuiteResult
from runner.sweep import store
from runner.sweep.record import point_directory
from runner.tracking.records import begin, read_record
from runner.tracking.tracked import TrackedRun
from runner.verdict import ReferenceUsed, Verdict
from tests.html import Page
from tests.suites import NAME, Played, night, right
from tests.sweeps import Found, begun

GOOD, BAD = Found(right(80)), Found(right(55))
BROKEN = Found((), state=State.ERROR)
UNKNOWN = Found(right(80), baseline=None)
HOSTILE = "<script>alert(1)</script> | [x](y) \x1b[31m"


def screen() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(
        file=text, width=120, highlight=False, markup=False, emoji=False, soft_wrap=True
    ), text


def finished(directory: Path) -> tuple[int, SuiteResult]:
    status = finish(directory, screen()[0])
    return status, result.read(directory)


def entry(found: SuiteResult, name: str) -> EntryResult:
    return next(each for each in found.entries if each.name == name)


# Tiers


@pytest.mark.parametrize(
    ("played", "status", "verdict"),
    [
        ([Played("a", GOOD), Played("b", GOOD)], 0, "PASSED"),
        ([Played("a", GOOD), Played("b", BAD)], 3, "FAILED"),
        ([Played("a", GOOD), Played("b", BROKEN)], 2, "ERROR"),
        ([Played("a", GOOD), Played("b", UNKNOWN)], 4, "INCONCLUSIVE"),
        ([Played("a", GOOD), Played("b", status=1, refused=("no",))], 1, "REFUSED"),
        ([Played("a", GOOD), Played("b")], 2, "ERROR"),
        ([Played("a", GOOD), Played("b", status=130)], 130, "INTERRUPTED"),
        ([Played("a", BROKEN), Played("b", BAD)], 3, "FAILED"),
        ([Played("a", UNKNOWN), Played("b")], 2, "ERROR"),
        ([Played("a", status=1, refused=("no",)), Played("b", UNKNOWN)], 4, "INCONCLUSIVE"),
        ([Played("a", GOOD), Played("b", BAD, "advisory")], 0, "PASSED"),
        ([Played("a", GOOD), Played("b", None, "advisory")], 0, "PASSED"),
        ([Played("a", GOOD), Played("b", BROKEN, "advisory")], 0, "PASSED"),
        ([Played("a", BAD, "advisory")], 0, "UNJUDGED"),
    ],
)
def test_the_worst_required_entry_is_the_exit_status(
    tmp_path: Path, played: list[Played], status: int, verdict: str
) -> None:
    assert finished(night(tmp_path, played))[0] == status
    found = result.read(tmp_path / "2026-11-22" / "22-10-11")
    assert (found.exit_status, found.verdict) == (status, verdict)


def test_an_entry_that_no_run_is_left_of_is_missing(tmp_path: Path) -> None:
    directory = night(tmp_path, [Played("a", GOOD), Played("b", GOOD)])
    sweep = json.loads((directory / "sweep.json").read_text())
    sweep["points"] = sweep["points"][:1]
    (directory / "sweep.json").write_text(json.dumps(sweep))
    status, found = finished(directory)
    lost = entry(found, "b")
    assert (status, lost.missing, lost.verdict) == (2, True, "NOT RUN")
    assert found.sentence == (
        "Suite nightly ERROR: 1 of 2 required entries passed; b is missing (NOT RUN)"
    )


def test_a_run_that_was_killed_before_its_verdict_is_missing(tmp_path: Path) -> None:
    directory = night(tmp_path, [Played("a", GOOD), Played("b", GOOD)])
    point_directory(directory, 1).verdict.unlink()
    status, found = finished(directory)
    assert (status, entry(found, "b").missing) == (2, True)
    assert "b is missing (UNFINISHED)" in found.sentence


def test_a_run_that_may_go_unjudged_does_not_fail(tmp_path: Path) -> None:
    directory = night(tmp_path, [Played("a", GOOD), Played("b", UNKNOWN)])
    file = point_directory(directory, 1).verdict
    verdict: Verdict = read_json(file, Verdict)
    write_json(file, replace(verdict, exit_status=0))  # verdict.require_baseline=false
    status, found = finished(directory)
    assert (status, found.verdict) == (0, "PASSED")
    assert found.sentence == (
        "Suite nightly PASSED: 1 of 2 required entries passed, 1 ran without being judged"
    )


def test_an_entry_refused_on_a_resume_does_not_keep_its_old_verdict(tmp_path: Path) -> None:
    played = [Played("a", GOOD), Played("b", GOOD, status=1, refused=("limits.run_s=-5: no",))]
    status, found = finished(night(tmp_path, played))
    assert (status, found.verdict) == (1, "REFUSED")
    refused = entry(found, "b")
    assert (refused.verdict, refused.exit_status) == ("REFUSED", 1)
    assert refused.shown is None and refused.metrics == ()
    assert refused.seconds is None and refused.directory == refused.report == ""


def test_the_sentence_names_the_worst_first_and_counts_the_rest(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    played = [*(Played(each, BROKEN) for each in names), Played("e", BAD), Played("f", GOOD)]
    _, found = finished(night(tmp_path, played))
    assert found.sentence == (
        "Suite nightly FAILED: 1 of 6 required entries passed; e FAILED (0.550, baseline 0.800); "
        "a ERROR; b ERROR; and 2 more"
    )


def test_advisory_entries_are_told_of(tmp_path: Path) -> None:
    directory = night(tmp_path, [Played("a", GOOD), Played("b", BAD, "advisory")])
    out, text = screen()
    finish(directory, out)
    told = "Advisory, without effect on the exit status: b FAILED (0.550, baseline 0.800)"
    assert text.getvalue().startswith(f"\nSuite nightly PASSED: 1 required entry passed\n{told}\n")
    for name in ("index.html", "suite.md"):
        assert told in (directory / name).read_text()


# The last good night


def nights(tmp_path: Path, *founds: Found, name: str = "a") -> list[Path]:
    """One entry over the days from 2026-11-01, finished in turn."""
    directories = []
    for day, found in enumerate(founds, 1):
        made = night(tmp_path, [Played(name, found)], f"2026-11-{day:02}", 1000.0 * day)
        finish(made, screen()[0])
        directories.append(made)
    return directories


def test_the_change_is_against_the_last_night_that_passed(tmp_path: Path) -> None:
    last = nights(tmp_path, Found(right(81)), Found(right(79)), BAD, BROKEN, Found(right(60)))[-1]
    good = result.read(last).entries[0].last_good
    assert good is not None and good.id == "2026-11-02/22-10-11"
    assert (good.value, good.change, good.same) == (0.79, pytest.approx(-0.19), True)
    page = (last / "index.html").read_text()
    assert "<span>−0.190 vs. 2026-11-02</span>" in page
    assert 'href="../../2026-11-02/22-10-11/0/' not in page  # it has no report.html here


def test_there_may_be_no_good_night(tmp_path: Path) -> None:
    last = nights(tmp_path, BAD, GOOD)[-1]
    assert result.read(last).entries[0].last_good is None
    assert "Last good night" not in (last / "index.html").read_text()


def test_only_earlier_nights_count(tmp_path: Path) -> None:
    first = nights(tmp_path, GOOD, GOOD)[0]
    finish(first, screen()[0])  # again, when the second is there
    assert result.read(first).entries[0].last_good is None


def test_another_suite_beside_it_does_not_count(tmp_path: Path) -> None:
    first = nights(tmp_path, GOOD)[0]
    result.write(first, replace(result.read(first), name="other"))
    second = night(tmp_path, [Played("a", GOOD)], "2026-11-02", 2000.0)
    assert finished(second)[1].entries[0].last_good is None


def test_values_of_different_questions_are_not_subtracted(tmp_path: Path) -> None:
    last = nights(tmp_path, GOOD, Found(right(40, of=50)))[-1]
    good = result.read(last).entries[0].last_good
    assert good is not None and (good.same, good.change) == (False, None)
    assert "other evaluation" in (last / "suite.md").read_text()


def test_an_earlier_night_that_cannot_be_read_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = nights(tmp_path, GOOD)[0]
    (first / "suite.json").write_text("{")
    second = night(tmp_path, [Played("a", GOOD)], "2026-11-02", 2000.0)
    assert finished(second)[0] == 0
    assert "warning: an earlier night is left out: " in capsys.readouterr().err


# All entries together


def judged(name: str, p: float | None, status: str, tier: str = "required") -> EntryResult:
    metric = result.Measured(
        *("mini", "acc", "none", status, 0.8, 0.01, None, 100, None, 0.8, 0.0, None, "paired", p)
    )
    exit_status = {"PASSED": 0, "FAILED": 3}[status]
    return EntryResult(
        *(name, 0, "tiny", "mini", tier, status, exit_status, False, "", (), None),
        *(metric, (metric,), 1.0, "0", "", "", "", "", ""),
    )


def test_holm_is_over_the_required_entries_alone() -> None:
    given = [
        judged("a", 0.03, "FAILED"),
        judged("b", 0.001, "FAILED"),
        judged("c", 0.5, "PASSED"),
        judged("d", 0.0001, "FAILED", "advisory"),
    ]
    found = decision.adjusted(given)
    assert [e.metrics[0].p_holm for e in found] == [*holm([0.03, 0.001, 0.5]), None]
    assert found[0].shown == found[0].metrics[0]
    assert decision.joint(found) == [
        "2 of 3 required entries with a test FAILED it; 1 of them significant after Holm's "
        "correction over 3 tests",
        "a: p = 0.030; not significant among 3 tests (Holm: p = 0.060)",
        "b: p = 0.001; significant among 3 tests (Holm: p = 0.003)",
    ]


def test_an_entry_without_a_p_value_is_judged_alone() -> None:
    alone = judged("c", None, "PASSED")
    lines = decision.joint([judged("a", 0.4, "PASSED"), judged("b", 0.6, "PASSED"), alone])
    assert lines == [
        "None of 2 required entries with a test FAILED it",
        "Not part of the correction (paired has no p value): c",
    ]
    only = decision.joint([judged("a", 0.4, "PASSED"), alone])
    assert only == [
        "Only a was judged by a test, so there is nothing to correct for",
        "Judged without a test (paired has no p value): c",
    ]


def filters(name: str, *found: tuple[float | None, str]) -> EntryResult:
    """An entry with a metric for each p and verdict; without a p, the rule is isclose."""
    whole = judged(name, None, min(verdict for _, verdict in found))
    return replace(
        whole,
        metrics=tuple(
            replace(
                whole.metrics[0],
                filter=f"f{number}",
                p=p,
                verdict=verdict,
                rule="isclose" if p is None else "paired",
            )
            for number, (p, verdict) in enumerate(found)
        ),
        shown=None,
    )


def test_the_correction_is_over_tests_and_an_entry_can_have_several() -> None:
    good = [filters(name, (0.4, "PASSED"), (0.9, "PASSED")) for name in "abcde"]
    bad = filters("bad", (0.006, "FAILED"), (0.9, "PASSED"))
    assert decision.joint(decision.adjusted([*good, bad])) == [
        "1 of 6 required entries with a test FAILED it; none of them significant after Holm's "
        "correction over 12 tests",
        "bad: p = 0.006; not significant among 12 tests (Holm: p = 0.072)",
    ]


def test_a_failure_without_a_p_value_is_not_part_of_the_correction() -> None:
    mixed = filters("mixed", (0.9, "PASSED"), (None, "FAILED"))
    both = filters("both", (0.0, "FAILED"), (None, "FAILED"))
    assert decision.joint(decision.adjusted([mixed, both])) == [
        "1 of 2 required entries with a test FAILED it; 1 of them significant after Holm's "
        "correction over 2 tests",
        "both: p < 0.001; significant among 2 tests (Holm: p < 0.001)",
        "Not part of the correction (isclose has no p value): mixed (FAILED by mini acc,f1), "
        "both (FAILED by mini acc,f1)",
    ]


def small_losses(tmp_path: Path, count: int, model: str = "tiny{}") -> SuiteResult:
    """Each entry loses two of 100 questions since the night before, too few to be seen alone."""
    tasks = [f"task{number}" for number in range(count)]
    for day, correct in ((1, 81), (2, 79)):
        played = [
            Played(task, Found(right(correct), task=task), task=task, model=model.format(task))
            for task in tasks
        ]
        directory = night(tmp_path, played, f"2026-11-0{day}", 1000.0 * day)
        finish(directory, screen()[0])
    return result.read(directory)


def test_many_small_losses_in_one_direction_are_a_finding(tmp_path: Path) -> None:
    found = small_losses(tmp_path, 20)
    assert (found.exit_status, found.verdict) == (0, "PASSED")
    (test,) = found.pooled
    assert (test.questions, test.worse, test.better, test.tasks) == (2000, 40, 0, 20)
    assert test.drop == pytest.approx(0.02) and test.p < 0.001 and test.significant
    (line,) = [each for each in found.joint if each.startswith("Pooled")]
    assert line == (
        "Pooled test against the last good nights: −2.0 points (20 tasks, 20 entries, 2,000 "
        "questions, 40 worse, 0 better), a significant drop (p < 0.001, level 0.01; no effect on "
        "the exit status)"
    )


def test_two_small_losses_are_none(tmp_path: Path) -> None:
    (test,) = small_losses(tmp_path, 2).pooled
    assert test.p == pytest.approx(1 / 16) and not test.significant


def test_a_question_counts_once_however_many_entries_ask_it(tmp_path: Path) -> None:
    """Twenty entries of one model and one task are one piece of evidence."""
    for day, correct in ((1, 81), (2, 79)):
        played = [Played(f"e{number}", Found(right(correct))) for number in range(20)]
        directory = night(tmp_path, played, f"2026-11-0{day}", 1000.0 * day)
        finish(directory, screen()[0])
    (test,) = result.read(directory).pooled
    assert (test.questions, test.worse, len(test.entries)) == (100, 2, 20)
    assert test.p == pytest.approx(1 / 4) and test.drop == pytest.approx(0.02)


def test_an_entry_with_a_reference_run_is_compared_with_that(tmp_path: Path) -> None:
    reference = night(tmp_path / "reference", [Played("a", Found(right(100)))])
    nights(tmp_path, GOOD)
    second = night(tmp_path, [Played("a", GOOD)], "2026-11-02", 2000.0)
    used = ReferenceUsed(
        *("ref", str(reference / "0"), None, "tiny", "cpu", "TP1", "e", "v", "PASSED")
    )
    file = point_directory(second, 0).verdict
    verdict: Verdict = read_json(file, Verdict)
    write_json(file, replace(verdict, reference=used))
    (test,) = finished(second)[1].pooled
    assert (test.against, test.worse, test.significant) == (pooled.REFERENCES, 20, True)


def test_a_comparison_whose_samples_are_gone_says_so(tmp_path: Path) -> None:
    first = nights(tmp_path, GOOD)[0]
    point_directory(first, 0).samples.unlink()
    second = night(tmp_path, [Played("a", GOOD)], "2026-11-02", 2000.0)
    _, found = finished(second)
    assert found.pooled == ()
    place = point_directory(first, 0).path
    assert found.joint[-1] == f"Not in the pooled test ({place} has no samples any more): a"


@pytest.mark.parametrize("rule", ["numerics", "replay"])
def test_entries_that_are_not_pooled_are_listed_with_the_reason(tmp_path: Path, rule: str) -> None:
    nights(tmp_path, GOOD)
    played = [Played("a", GOOD), Played("b", GOOD), Played("new", GOOD), Played("lost")]
    second = night(tmp_path, played, "2026-11-02", 2000.0)
    file = point_directory(second, 1).verdict
    verdict: Verdict = read_json(file, Verdict)
    used = ReferenceUsed(*("ref", "/gone", None, "tiny", "cpu", "TP1", "e", "v", "PASSED"))
    shifts = [replace(m, metric="logprob_shift", rule=rule) for m in verdict.metrics if m.judged]
    write_json(file, replace(verdict, metrics=tuple(shifts), reference=used))
    _, found = finished(second)
    (test,) = found.pooled
    assert test.entries == ("a",)
    assert found.joint[-2:] == (
        f"Not in the pooled test ({rule} does not compare scores): b",
        "Not in the pooled test (no reference run, and no last good night with the same "
        "evaluation): new",
    )


def test_scores_that_are_no_shares_are_not_pooled(tmp_path: Path) -> None:
    last = nights(tmp_path, Found([5.0] * 100, baseline=5.0), Found([5.0] * 100, baseline=5.0))[-1]
    found = result.read(last)
    assert found.pooled == () and "scores outside 0 to 1" in found.joint[-1]


@pytest.mark.slow
def test_the_level_of_the_pooled_test_holds() -> None:
    """Questions flip in either direction by chance: at most 1 % are findings."""
    import numpy as np

    generator, findings, tries = np.random.default_rng(1), 0, 1000
    for _ in range(tries):
        moved = generator.choice([-1.0, 0.0, 1.0], 400, p=[0.05, 0.9, 0.05])
        drops = [pooled.Drop("a", "t", ("m", str(n)), float(d)) for n, d in enumerate(moved)]
        findings += pooled._test("them", drops).significant
    assert findings / tries <= 0.02


# MLflow


def test_a_run_is_tagged_with_its_night_and_its_entry(
    tmp_path: Path,
    config: RunConfig,
    plan: Plan,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
) -> None:
    config.sweep.id = "2026-11-22/22-10-11"
    config.suite.name, config.suite.entry, config.suite.tier = "nightly", "a", "advisory"
    found = []
    for place in ("0", "earlier/0"):
        files = RunDirectory(tmp_path / place)
        files.path.mkdir(parents=True)
        write_json(files.tracking, begin(config, plan, environment, 1000))
        write_json(files.outcome, outcome)
        write_json(files.verdict, verdict)
        tags = read_record(files).tags
        found.append([tags.get(name) for name in ("suite", "suite_id", "suite_entry", "tier")])
    night_of, replaced = found
    assert night_of == ["nightly", "2026-11-22/22-10-11", "a", "advisory"]
    assert replaced == [None] * 4  # another run took its place


def recorded(root: Path, uri: str, found: Found, key: str) -> Path:
    """A night whose run is in MLflow, and whose page is not."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    known = client.get_experiment_by_name("mini")
    experiment = known.experiment_id if known is not None else client.create_experiment("mini")
    run_id = client.create_run(experiment).info.run_id
    directory = night(root, [Played("a", found)])
    asked = entries.read(directory)
    write_json(directory / entries.NAME, replace(asked, key=key))
    files = point_directory(directory, 0)
    write_json(files.tracking, begun(0, uri))
    write_json(files.tracked, TrackedRun(uri, "mini", experiment, run_id))
    return directory


@pytest.mark.slow
def test_sync_records_a_night_that_did_not_reach_mlflow(tmp_path: Path, store_file: Path) -> None:
    import mlflow

    uri = f"sqlite:///{store_file}"
    directory = recorded(tmp_path / "suites", uri, GOOD, "1f")
    for _ in range(2):
        assert sync.sync([tmp_path / "suites"], screen()[0]) == 0
    client = mlflow.MlflowClient(tracking_uri=uri)
    place = client.get_experiment_by_name("suite nightly")
    (page,) = client.search_runs([place.experiment_id])
    assert page.info.run_name == "PASSED nightly 2026-11-22/22-10-11"
    assert page.data.tags["exit_status"] == "0" and page.data.metrics["entry/a"] == 0.8
    run_id = read_json(point_directory(directory, 0).tracked, TrackedRun).run_id
    assert run_id in (directory / "index.html").read_text()
    assert not (directory / "sweep.html").exists()


@pytest.mark.parametrize("receipt", [True, False])
def test_sync_keeps_the_result_of_a_suite_whose_runs_were_deleted(
    tmp_path: Path, receipt: bool
) -> None:
    directory = night(tmp_path, [Played("a", GOOD), Played("b", BAD, "advisory")])
    finish(directory, screen()[0])
    place = store.Place("sqlite:///gone.db", "mini", "1", ("0af",))
    if receipt:
        write_json(directory / store.RECEIPT, store.Receipt((place,)))
    else:  # the night could not be sent, and one of its runs is left
        files = point_directory(directory, 1)
        write_json(files.tracked, TrackedRun("sqlite:///gone.db", "mini", "1", "0af"))
    before = {each: each.read_bytes() for each in directory.iterdir() if each.is_file()}
    shutil.rmtree(directory / "0")
    out, text = screen()
    assert sync.sync([tmp_path], out) == 0
    assert {each: each.read_bytes() for each in directory.iterdir() if each.is_file()} == before
    assert "not judged again, because run directories were deleted: 1 suite\n" in text.getvalue()


@pytest.mark.slow
def test_nights_in_directories_of_the_same_name_have_a_page_each(
    tmp_path: Path, store_file: Path
) -> None:
    import mlflow

    uri = f"sqlite:///{store_file}"
    for machine, found in (("one", GOOD), ("two", BAD)):
        finish(recorded(tmp_path / machine, uri, found, machine), screen()[0])
    client = mlflow.MlflowClient(tracking_uri=uri)
    place = client.get_experiment_by_name("suite nightly")
    pages = client.search_runs([place.experiment_id])
    assert {page.data.tags["verdict"] for page in pages} == {"PASSED", "FAILED"}


# Its files


def hostile(tmp_path: Path) -> Path:
    played = [
        Played(HOSTILE, Found(right(80)), model=HOSTILE, task="mini"),
        Played("b", status=1, refused=(HOSTILE,), task=HOSTILE),
    ]
    return night(tmp_path, played)


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    directory = hostile(tmp_path)
    finish(directory, screen()[0])
    text = (directory / "index.html").read_text()
    page = Page(text)
    assert page.open == [] and "script" not in page.tags and "\x1b" not in text
    assert all(each.startswith(("#", "0/")) for each in page.loads)
    assert "default-src 'none'" in text
    assert "alert(1)" in "".join(page.text)


def test_every_cell_is_a_link(tmp_path: Path) -> None:
    directory = night(tmp_path, [Played("a", GOOD), Played("b"), Played("c", BAD, task="other")])
    finish(directory, screen()[0])
    text = (directory / "index.html").read_text()
    assert text.count('<a class="cell ') == 3
    assert '<a class="cell good" href="0/report.md"' in text
    assert '<a class="cell doubt" href="#entry-1"' in text  # nothing was written
    assert '<a class="cell bad" href="2/report.md"' in text


def test_markdown_cannot_be_broken(tmp_path: Path) -> None:
    directory = hostile(tmp_path)
    finish(directory, screen()[0])
    text = (directory / "suite.md").read_text()
    assert "<script>" not in text and "\x1b" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_junit_counts_its_cases_and_says_why(tmp_path: Path) -> None:
    played = [
        Played("a", GOOD),
        Played("b", BAD),
        Played("c", BROKEN),
        Played("d", UNKNOWN),
        Played("e"),
        Played("f", BAD, "advisory"),
        Played("g", GOOD, "advisory"),
    ]
    directory = night(tmp_path, played)
    finish(directory, screen()[0])
    root = ElementTree.parse(directory / "junit.xml").getroot()
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    for each in (root, suite):
        counts = [each.get(name) for name in ("tests", "failures", "errors", "skipped")]
        assert counts == ["7", "1", "3", "1"]
    kinds = {
        case.get("name"): [child.tag for child in case if child.tag != "properties"]
        for case in suite.iter("testcase")
    }
    errors = {name: ["error"] for name in "cde"}
    assert kinds == {"a": [], "b": ["failure"], **errors, "f": ["skipped"], "g": []}
    for case in suite.iter("testcase"):
        assert {"classname", "name", "time"} == set(case.attrib)
        # As in the schema of Jenkins: properties come first.
        assert case[0].tag == "properties"
    (bad,) = [case for case in suite.iter("testcase") if case.get("name") == "b"]
    told = {each.get("name"): each.get("value") for each in bad[0]}
    reason = entry(result.read(directory), "b").reason
    assert told == {
        "tier": "required",
        "verdict": "FAILED",
        "reason": reason,
        "metric": "mini acc",
        "value": "0.55",
        "baseline": "0.8",
    }
    failure = bad.find("failure")
    assert failure is not None and failure.get("message") == f"FAILED: {reason}"


def test_junit_holds_any_text(tmp_path: Path) -> None:
    directory = hostile(tmp_path)
    _, found = finished(directory)
    strange = replace(found.entries[0], reason="\x00\ud800\x0b￾ <&> 模型")
    ElementTree.fromstring(junit.render(replace(found, entries=(strange,))))


def test_the_json_reads_back_as_it_was_written(tmp_path: Path) -> None:
    directory = night(tmp_path, [Played("a", GOOD), Played("b", Found([float("nan")] * 3))])
    finish(directory, screen()[0])
    found = result.read(directory)
    plain = json.loads((directory / "suite.json").read_text())
    assert (plain["format"], plain["name"], plain["id"]) == (1, NAME, "2026-11-22/22-10-11")
    assert [each["name"] for each in plain["entries"]] == ["a", "b"]
    assert found.entries[1].verdict != "PASSED" and found.exit_status != 0


def test_the_fields_of_the_json_are_documented() -> None:
    from dataclasses import fields

    page = Path(__file__).parents[2] / "docs" / "suites.md"
    text = page.read_text(encoding="utf-8")
    kinds = (SuiteResult, EntryResult, result.Measured, result.GoodNight, result.Pooled)
    for kind in kinds:
        for each in fields(kind):
            assert f"`{each.name}`" in text, f"{kind.__name__}.{each.name}"
