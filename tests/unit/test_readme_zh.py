"""README.zh.md says what README.md says: same commands, output, links and pictures, in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import translated

PROJECT = Path(__file__).parent.parent.parent
ENGLISH = (PROJECT / "README.md").read_text(encoding="utf-8")
CHINESE = (PROJECT / "README.zh.md").read_text(encoding="utf-8")
# The line under each title that leads to the other language.
SWITCH = {"README.md", "README.zh.md"}


def _targets(text: str, mark: str) -> list[str]:
    """Return where links or pictures lead, in order; a translation counts as its original."""
    found = [target for target in translated.targets(text, mark) if target not in SWITCH]
    return [re.sub(r"^docs/zh/", "docs/", target) for target in found]


def test_each_leads_to_the_other_under_its_title() -> None:
    assert ENGLISH.splitlines()[2] == "[中文](README.zh.md)"
    assert CHINESE.splitlines()[2] == "[English](README.md)"


def test_headings_have_the_same_levels_in_the_same_order() -> None:
    assert [level for level, _ in translated.headings(CHINESE)] == [
        level for level, _ in translated.headings(ENGLISH)
    ]


def test_code_blocks_differ_in_comments_alone() -> None:
    ours, theirs = translated.blocks(CHINESE), translated.blocks(ENGLISH)
    assert len(theirs) >= 5
    assert [*map(translated.code, ours)] == [*map(translated.code, theirs)]


def test_comments_stand_on_the_same_lines() -> None:
    ours, theirs = translated.blocks(CHINESE), translated.blocks(ENGLISH)
    assert [*map(translated.commented, ours)] == [*map(translated.commented, theirs)]


@pytest.mark.parametrize("mark", ["", "!"], ids=["links", "pictures"])
def test_links_and_pictures_lead_to_the_same_places_in_the_same_order(mark: str) -> None:
    assert _targets(ENGLISH, mark)
    assert _targets(CHINESE, mark) == _targets(ENGLISH, mark)


def test_links_lead_to_the_translation_where_there_is_one() -> None:
    files = {target.partition("#")[0] for target in translated.targets(CHINESE)}
    assert all((PROJECT / file).is_file() for file in files if file.startswith("docs/"))
    pages = [path.name for path in (PROJECT / "docs" / "zh").glob("*.md")]
    assert not files & {f"docs/{page}" for page in pages}


def test_commands_and_settings_in_the_prose_are_the_same() -> None:
    assert translated.inline(CHINESE) == translated.inline(ENGLISH)


def test_exit_statuses_are_the_same() -> None:
    bold = re.compile(r"\*\*(\d+)\*\*")
    assert bold.findall(ENGLISH)
    assert bold.findall(CHINESE) == bold.findall(ENGLISH)
