"""The pages in docs/zh say what those in docs say: same structure, code, numbers and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import translated

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
PAGES = sorted(path.name for path in (DOCS / "zh").glob("*.md"))


@pytest.fixture(params=PAGES)
def name(request: pytest.FixtureRequest) -> str:
    page: str = request.param
    return page


@pytest.fixture
def english(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.fixture
def chinese(name: str) -> str:
    return (DOCS / "zh" / name).read_text(encoding="utf-8")


def _files(text: str, directory: Path) -> list[str]:
    """Return the addresses and files that links lead to; a translation counts as its original."""
    found = []
    for target in translated.targets(text):
        file = target.partition("#")[0]
        if re.match(r"https?:", target):
            found.append(target)
        elif file:
            path = (directory / file).resolve()
            original = DOCS / path.name
            found.append(str(original if path.parent == DOCS / "zh" else path))
        else:
            found.append("#")
    return found[1:]  # the first one leads to the other language


def test_the_pages_that_every_user_needs_are_translated() -> None:
    assert set(PAGES) >= {"ascend.md", "install.md", "verdict.md"}


def test_each_leads_to_the_other_under_its_title(name: str, english: str, chinese: str) -> None:
    assert english.splitlines()[1:4:2] == chinese.splitlines()[1:4:2] == ["", ""]
    assert english.splitlines()[2] == f"[中文](zh/{name})"
    assert chinese.splitlines()[2] == f"[English](../{name})"


def test_headings_have_the_same_levels_in_the_same_order(english: str, chinese: str) -> None:
    assert translated.headings(english)
    assert [level for level, _ in translated.headings(chinese)] == [
        level for level, _ in translated.headings(english)
    ]


def test_code_blocks_differ_in_comments_alone(english: str, chinese: str) -> None:
    ours, theirs = translated.blocks(chinese), translated.blocks(english)
    assert theirs
    assert [*map(translated.code, ours)] == [*map(translated.code, theirs)]
    assert [*map(translated.commented, ours)] == [*map(translated.commented, theirs)]


def test_tables_have_the_same_rows_columns_and_numbers(english: str, chinese: str) -> None:
    ours, theirs = translated.tables(chinese), translated.tables(english)
    assert theirs
    assert [[len(row) for row in table] for table in ours] == [
        [len(row) for row in table] for table in theirs
    ]
    for ours_rows, theirs_rows in zip(ours, theirs, strict=True):
        for row, original in zip(ours_rows, theirs_rows, strict=True):
            assert [*map(translated.inline, row)] == [*map(translated.inline, original)]
            assert [*map(translated.numbers, row)] == [*map(translated.numbers, original)]


def test_commands_and_settings_in_the_prose_are_the_same(english: str, chinese: str) -> None:
    assert translated.inline(chinese) == translated.inline(english)


def test_numbers_in_the_prose_are_the_same(english: str, chinese: str) -> None:
    assert translated.numbers(chinese) == translated.numbers(english)


def test_links_lead_to_the_same_pages(english: str, chinese: str) -> None:
    assert sorted(_files(chinese, DOCS / "zh")) == sorted(_files(english, DOCS))


def test_links_lead_to_the_translation_where_there_is_one(chinese: str) -> None:
    files = [target.partition("#")[0] for target in translated.targets(chinese)[1:]]
    assert not [file for file in files if file in {f"../{page}" for page in PAGES}]


def test_every_link_leads_to_a_file_and_a_heading(english: str, chinese: str, name: str) -> None:
    for text, page in ((english, DOCS / name), (chinese, DOCS / "zh" / name)):
        for target in translated.targets(text):
            if re.match(r"https?:", target):
                continue
            file, _, anchor = target.partition("#")
            path = page.parent / file if file else page
            assert path.is_file(), target
            if anchor:
                assert anchor in translated.anchors(path.read_text(encoding="utf-8")), target
