"""Nothing of a stranger's text is unseen, wherever it leaves us."""

from __future__ import annotations

import io
import sys
import unicodedata
from dataclasses import replace

import pytest
from rich.table import Table

from runner.environment import Environment
from runner.errors import UserError
from runner.messages import complain, warn
from runner.outcome import Outcome
from runner.plan import Plan
from runner.present.formats import cell, fenced
from runner.present.template import template
from runner.report import markdown, terminal
from runner.tracking import names
from runner.verdict import Verdict
from runner.visible import visible

# Format characters that are drawn: signs of Arabic, Syriac and Kaithi numbers.
DRAWN = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD}
DRAWN |= {0x110CD}
HOSTILE = "a\x1b[2J\x1b]0;title\x07\x9b31m\u061c\u200b\u2028\u2029\u202e\U000e0041\ud800b"


def bare(text: str) -> bool:
    """Whether anything in it is unseen."""
    return any(
        unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") and each != "\n"
        for each in text
    )


def test_every_unseen_character_is_spelled_out() -> None:
    unseen = [
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and code not in DRAWN
        and chr(code) not in "\t\n"
    ]
    assert len(unseen) > 2000
    assert [hex(ord(each)) for each in unseen if visible(f"a{each}b") == f"a{each}b"] == []


@pytest.mark.parametrize(
    "text",
    ["plain\ttext\n", "精度 é ß", "می‌خواهم", "क्‍ष", "👩‍🚀 ❤️", "e\u0301", "\u00a0", ""],
)
def test_what_can_be_seen_stays(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "␛[31m"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("b\u200dc", "b⟨U+200D⟩c"),
        ("\U000e0041", "⟨U+E0041⟩"),
        ("\uffff", "⟨U+FFFF⟩"),
        ("\r\n", "␍\n"),
    ],
)
def test_it_is_spelled_out_by_name(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_screen_shows_it_in_lines_and_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    out = terminal.console()
    table = Table(HOSTILE)
    table.add_row(HOSTILE)
    out.print(HOSTILE)
    out.print(table, soft_wrap=False, width=200)
    shown = stream.getvalue()
    assert not bare(shown)
    assert shown.count("␛[2J") == 3


def test_rich_still_colours_and_a_table_keeps_its_columns() -> None:
    stream = io.StringIO()
    out = terminal.Screen(file=stream, force_terminal=True, color_system="standard", markup=False)
    table = Table("one", "two")
    table.add_row("\x1b[1mx", "y", style="red")
    out.print(table, width=60)
    lines = stream.getvalue().splitlines()
    assert "\x1b[31m" in stream.getvalue()
    assert "\x1b[1mx" not in stream.getvalue() and "␛[1mx" in stream.getvalue()
    assert len(lines) == 5


def test_errors_and_warnings_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    complain(UserError(HOSTILE, HOSTILE))
    warn(HOSTILE)
    said = capsys.readouterr().err
    assert not bare(said)
    assert said.count("␛[2J") == 3


def test_markdown_and_templates_show_it() -> None:
    assert not bare(cell(HOSTILE) + fenced(HOSTILE, "text"))
    page = template("original.md.j2", cell=cell, fenced=fenced, plus_minus=str)
    text = page.environment.from_string("{{ text }} {{ text | upper }} {{ 5 }}").render(
        text=HOSTILE
    )
    assert not bare(text)
    assert text.endswith(" 5")


def test_reports_and_tags_show_the_names_of_tasks_and_models(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    plan = replace(plan, model=HOSTILE, baseline_source=HOSTILE)
    metrics = tuple(replace(each, task=HOSTILE, reason=HOSTILE) for each in verdict.metrics)
    verdict = replace(verdict, reason=HOSTILE, metrics=metrics)
    assert not bare(markdown.render(plan, environment, outcome, verdict, log_tail=HOSTILE))
    assert not bare(names.line(HOSTILE))
