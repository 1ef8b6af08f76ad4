"""trace.html, trace.md, trace.json and the terminal say the same of a trace."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from runner.rundir import read_json
from runner.trace import findings, page, screen
from runner.trace.__main__ import main
from runner.trace.result import TraceResult
from tests.traces import MODULES, departing, result

DOWN = "layers.2.mlp.down_proj"
HOSTILE = "<script>alert(1)</script>|\u202e"


@pytest.fixture
def origin() -> TraceResult:
    return result(departing("prefill", DOWN, 100.0))


def _printed(traced: TraceResult) -> str:
    out = Console(file=io.StringIO(), width=120)
    screen.show(out, traced)
    text = out.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_the_first_module_is_named_everywhere(origin: TraceResult, tmp_path: Path) -> None:
    page.write(tmp_path, origin, "python -m runner.trace a b")
    headline = f"The first module that departs is {DOWN}, in prefill (prompt tokens)."
    for text in (
        (tmp_path / "trace.html").read_text(),
        (tmp_path / "trace.md").read_text(),
        _printed(origin),
    ):
        assert headline in text
        assert "with engine.window=1" in text or "covered" in text
    assert read_json(tmp_path / "trace.json", TraceResult) == origin
    assert origin.exit_status == 3


def test_the_table_has_the_origin_and_what_is_before_it(origin: TraceResult) -> None:
    assert origin.found is not None
    parts = findings.parts(origin.found)
    names = [each.name for each in parts if each.phase == "prefill"]
    assert names == ["embed_tokens", *(f"layers.{n}" for n in range(4)), "norm", "lm_head"]
    assert [each.name for each in parts if each.origin] == ["layers.2"]
    assert [each.name for each in parts if each.phase == "prefill" and each.worst.departs] == [
        "layers.2",
        "layers.3",
        "norm",
        "lm_head",
    ]


def test_each_phase_has_a_figure_with_a_tooltip_for_each_module(origin: TraceResult) -> None:
    text = page.html(origin, "command")
    plots = [
        ElementTree.fromstring(f"<svg{part.partition('</svg>')[0]}</svg>")
        for part in text.split("<svg")[1:]
    ]
    titles = [
        "".join(each.itertext())
        for plot in plots
        for each in plot.iter()
        if "title" in str(each.tag)
    ]
    assert len(plots) == 2
    assert sum(title.startswith(f"{DOWN}:") for title in titles) == 2
    assert len(titles) == 2 * len(MODULES)


def test_without_a_departure_nothing_is_blamed() -> None:
    traced = result()
    text = page.html(traced, "command")
    assert "Nothing departs beyond noise." in text
    assert "first" not in {each for each in text.split('class="')[1:] if each.startswith("first")}
    assert traced.exit_status == 0


def test_for_another_page_the_absence_of_a_departure_names_what_was_traced(
    origin: TraceResult,
) -> None:
    said = findings.conclusion(result())
    assert said == "Nothing departs in the traced tokens of 12 questions."
    other = replace(origin, found=None, prompts=origin.questions[:2])
    for each in (origin, other):
        assert findings.conclusion(each) == findings.headline(each)


def test_gradual_growth_names_the_first_that_departs_and_the_largest_jump() -> None:
    growing = {("prefill", module): 1.3**place for place, module in enumerate(MODULES)}
    traced = result(growing | departing("prefill", DOWN, 900.0))
    assert traced.found is not None and traced.found.first is not None
    first = traced.found.first.module
    text = page.markdown(traced, "command")
    assert (
        f"Differences grow gradually: the first module that departs is {first}, in prefill (prompt "
        f"tokens); the largest jump is at {DOWN}, in prefill (prompt tokens)."
    ) in text
    assert f"The largest jump is at {DOWN}" in text and "amplify what reaches it" in text
    assert "so its input agrees" not in text
    assert first != DOWN


def test_other_prompts_are_the_finding(origin: TraceResult) -> None:
    traced = replace(origin, found=None, prompts=origin.questions[:2])
    assert findings.headline(traced) == "The prompts of 2 of 12 questions differ."
    assert "chat template" in page.markdown(traced, "command")
    assert DOWN not in page.html(traced, "command")
    assert traced.exit_status == 3


def test_nothing_in_common_is_inconclusive(origin: TraceResult) -> None:
    assert origin.found is not None
    traced = replace(origin, found=replace(origin.found, modules=(), first=None))
    assert traced.exit_status == 4
    page.html(traced, "command")


def test_names_are_escaped() -> None:
    traced = result(name=HOSTILE)
    text = page.html(traced, "command")
    assert "<script" not in text
    assert "\u202e" not in text
    assert "<script" not in page.markdown(traced, "command")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "nowhere"], "A=nowhere: no such directory"),
        ([".", ".", "--questions", "2"], "at least 4"),
    ],
)
def test_mistakes_are_one_message(words: list[str], said: str, capsys: Any) -> None:
    assert main(words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
