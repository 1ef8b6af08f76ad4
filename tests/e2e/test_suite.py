"""`suite=canary` with real engines: a late entry, resumed, and a second night with a fault."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from runner.canary.damaged import write_damaged
from runner.canary.faults import file_faults
from runner.suite import result
from runner.suite.result import EntryResult, SuiteResult
from tests.html import Page

pytestmark = pytest.mark.slow

FAULT = "mean-and-std-in-bgr-order"
OWN = """\
# @package _global_
defaults:
  - override /hydra/sweeper: suite
hydra: {{mode: MULTIRUN}}
suite:
  name: canary
  entries:
    canary_vl: {{model: canary_vl, task: canary, overrides: ['model.pretrained={weights}']}}
    canary_vl_half: {{model: canary_vl, task: canary, overrides: [task.limit=20], tier: advisory}}
    unknown: {{model: qwen3_9b, task: gsm8k, tier: advisory}}
"""


@dataclass(frozen=True)
class Done:
    """A suite that was run: its exit status, what it printed, and its result."""

    status: int
    printed: str
    directory: Path
    found: SuiteResult

    def entry(self, name: str) -> EntryResult:
        return next(each for each in self.found.entries if each.name == name)


def run(directory: Path, place: str, *overrides: str) -> Done:
    """Run the canary suite below `directory`, in the night `place`."""
    night = directory / "suites" / "canary" / place
    store = f"tracking.uri=sqlite:///{directory / 'mlflow.db'}"
    where = f"hydra.sweep.dir={night}"
    done = subprocess.run(
        [sys.executable, "-m", "runner", "suite=canary", store, where, *overrides],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    return Done(done.returncode, done.stdout, night, result.read(night))


@dataclass(frozen=True)
class Nights:
    """The first night, with an entry that took too long; resumed; and a bad second night."""

    first: Done
    resumed: Done
    second: Done


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    directory = tmp_path_factory.mktemp("suite")
    (directory / "own" / "suite").mkdir(parents=True)
    write_damaged(file_faults()[FAULT], directory / "damaged")
    own = OWN.format(weights=directory / "damaged")
    # One entry ends after a second, long before its engine has started.
    late = "suite.entries.canary_moe.timeout=1"
    first = run(directory, "2026-11-01/22-00-00", late, "limits.retries=0")
    resumed = run(directory, "2026-11-01/22-00-00")
    (directory / "own" / "suite" / "canary.yaml").write_text(own)
    second = run(directory, "2026-11-02/22-00-00", f"--config-dir={directory / 'own'}")
    yield Nights(first, resumed, second)


def test_an_entry_that_takes_too_long_fails_the_suite_alone(nights: Nights) -> None:
    first = nights.first
    assert first.status == 2, first.printed
    late = first.entry("canary_moe")
    assert (late.verdict, late.timeout) == ("ERROR", 1.0)
    assert "limits.run_s" in late.reason
    assert [e.verdict for e in first.found.entries if e.name != "canary_moe"] == ["PASSED"] * 3
    assert "4 points, 4 to run on 2 engines, 2 engine starts saved" in first.printed


def test_only_what_is_missing_runs_again(nights: Nights) -> None:
    resumed = nights.resumed
    assert resumed.status == 0, resumed.printed
    assert "4 points, 3 already done, 1 to run on 1 engine" in resumed.printed
    assert "Suite canary PASSED: all 3 required entries passed" in resumed.printed
    assert resumed.found.started == nights.first.found.started
    assert "None of 2 required entries with a test FAILED it" in resumed.found.joint
    assert (resumed.directory / "earlier").is_dir()


def test_a_bad_night_says_what_failed_and_since_when(nights: Nights) -> None:
    second = nights.second
    assert second.status == 3, second.printed
    assert second.found.sentence.startswith(
        "Suite canary FAILED: 0 of 1 required entries passed; canary_vl FAILED (0."
    )
    good = second.entry("canary_vl").last_good
    assert good is not None and good.id == "2026-11-01/22-00-00"
    assert good.same and good.change is not None and good.change < -0.2
    unknown = second.entry("unknown")
    assert (unknown.verdict, unknown.exit_status) == ("REFUSED", 1)
    assert "model=qwen3_9b: no such choice" in unknown.reason
    (test,) = second.found.pooled
    assert test.significant and test.entries == ("canary_vl",)  # the other one has a new limit


def test_its_files(nights: Nights) -> None:
    directory = nights.second.directory
    page = Page((directory / "index.html").read_text())
    links = {each for each in page.loads if not each.startswith(("#", "http"))}
    assert {"0/report.html", "1/report.html"} <= links
    assert "../../2026-11-01/22-00-00/0/report.html" in links
    assert all((directory / each).resolve().is_file() for each in links)
    cases = list(ElementTree.parse(directory / "junit.xml").iter("testcase"))
    assert [[c.tag for c in case][1:] for case in cases] == [["failure"], ["skipped"], ["skipped"]]


def test_mlflow_has_a_page_for_each_night_and_flat_runs(nights: Nights) -> None:
    import mlflow

    store = f"sqlite:///{nights.first.directory.parents[3] / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=store)
    experiments = {each.name: each.experiment_id for each in client.search_experiments()}
    pages = client.search_runs([experiments["suite canary"]], order_by=["start_time"])
    told = [(p.data.tags["suite_directory"], p.data.tags["verdict"]) for p in pages]
    places = (nights.first.directory, nights.second.directory)
    assert told == list(zip(map(str, places), ("PASSED", "FAILED"), strict=True))
    assert len({page.data.tags["suite_summary"] for page in pages}) == 2
    files = {each.path for each in client.list_artifacts(pages[0].info.run_id)}
    assert {"index.html", "suite.md", "junit.xml", "suite.json"} <= files
    assert pages[0].data.metrics["entry/canary_vl"] == pytest.approx(0.8933, abs=0.001)
    runs = client.search_runs(
        [experiments["canary"], experiments["canary_moe"]],
        "tags.suite_id = '2026-11-01/22-00-00'",
    )
    found = {(r.data.tags["suite"], r.data.tags["suite_entry"], r.data.tags["tier"]) for r in runs}
    required = [("canary", name, "required") for name in ("canary_vl", "canary_moe")]
    assert len(runs) == 4 and found == {
        *required,
        ("canary", "canary_vl_not_worse", "required"),
        ("canary", "canary_vl_half", "advisory"),
    }


def test_the_command_of_an_entry_runs_that_entry_alone(nights: Nights) -> None:
    command = (nights.resumed.directory / "2" / "command.txt").read_text()
    assert "python -m runner hydra.mode=RUN model=canary_moe task=canary_moe" in command
    assert "suite=canary" in command
