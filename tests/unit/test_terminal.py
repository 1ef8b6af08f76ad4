"""The end of a run in a terminal: verdict first, in colour where that is wanted, with links."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from runner.report import terminal
from runner.status import Status
from runner.tracking.tracked import TrackedRun
from runner.verdict import Verdict

RED, GREEN = "\x1b[1;31m", "\x1b[1;32m"


@pytest.fixture(autouse=True)
def a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


def out(is_terminal: bool) -> Console:
    return terminal.Screen(file=StringIO(), force_terminal=is_terminal, width=120, soft_wrap=True)


def written(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_verdict_comes_first_and_in_its_colour(verdict: Verdict) -> None:
    console = out(is_terminal=True)
    terminal.show_verdict(console, "m", verdict, "the log's end")
    assert written(console).startswith(f"m: {GREEN}PASSED\x1b[0m (")
    console = out(is_terminal=True)
    terminal.show_point(console, replace(verdict, status=Status.FAILED), "")
    assert written(console).startswith(f"{RED}FAILED\x1b[0m: ")


def test_no_color_leaves_the_words(verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = out(is_terminal=True)
    terminal.show_verdict(console, "m", verdict, "")
    assert "PASSED" in written(console)
    assert not re.search(r"\x1b\[[\d;]*3\dm", written(console))


def test_a_file_has_neither_colours_nor_links(verdict: Verdict, tmp_path: Path) -> None:
    console = out(is_terminal=False)
    terminal.show_verdict(console, "m", verdict, "")
    page = tmp_path / "report.html"
    page.touch()
    terminal.show_reports(console, tmp_path / "report.md", page)
    terminal.show_tracked(console, TrackedRun("http://host:1", "e", "7", "abc"))
    assert "\x1b" not in written(console)
    assert f"report: {tmp_path}/report.md (also: report.html)\n" in written(console)
    assert "MLflow: http://host:1/#/experiments/7/runs/abc?" in written(console)


def test_a_terminal_opens_what_is_named(tmp_path: Path) -> None:
    console = out(is_terminal=True)
    page = tmp_path / "a b.html"
    terminal.show_reports(console, tmp_path / "report.md", page)
    assert "also:" not in written(console)  # there is no page
    page.touch()
    terminal.show_reports(console, tmp_path / "report.md", page)
    terminal.show_tracked(console, TrackedRun("http://host:1", "e", "7", "abc"))
    links = re.findall(r"\x1b\]8;[^;]*;([^\x1b]+)\x1b\\", written(console))
    assert [link.rpartition("/")[2] for link in links[:3]] == [
        "report.md",
        "report.md",
        "a%20b.html",
    ]
    assert all(link.startswith("file://") for link in links[:3])
    assert links[3].startswith("http://host:1/#/experiments/7/runs/abc?")


def test_what_a_name_hides_is_spelled_out(verdict: Verdict) -> None:
    console = out(is_terminal=True)
    terminal.show_verdict(console, "m\x1b]0;owned\x07", replace(verdict, metrics=()), "")
    assert "\x1b]0;" not in written(console)
