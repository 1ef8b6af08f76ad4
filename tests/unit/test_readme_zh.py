"""README.zh.md says what README.md says: same commands, output, links and pictures, in order."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
ENGLISH = (PROJECT / "README.md").read_text(encoding="utf-8")
CHINESE = (PROJECT / "README.zh.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The line under each title that leads to the other language.
SWITCH = {"README.md", "README.zh.md"}
# Languages whose comments a reader may want in their own tongue; printed output has none.
COMMENTED = ("bash", "yaml")


def _blocks(text: str) -> list[tuple[str, list[str]]]:
    return [(language, _code(language, block)) for language, block in FENCED.findall(text)]


def _code(language: str, block: str) -> list[str]:
    """The lines of a block, without comments where its language has them."""
    if language not in COMMENTED:
        return block.splitlines()
    return [re.sub(r"(^|\s+)#.*$", "", line).rstrip() for line in block.splitlines()]


def _prose(text: str) -> str:
    return FENCED.sub("", text)


def _headings(text: str) -> Counter[int]:
    return Counter(len(marks) for marks in re.findall(r"^(#+) ", _prose(text), re.MULTILINE))


def _targets(text: str, mark: str) -> list[str]:
    """Where links (`mark` is empty) or pictures (`!`) lead, in order."""
    found: list[str] = re.findall(rf"(?<!!){mark}\[[^\]]*\]\(([^)\s]+)\)", _prose(text))
    return [target for target in found if target not in SWITCH]


def _inline(text: str) -> Counter[str]:
    """Code in the prose: commands, settings, paths; sentences may order them otherwise."""
    return Counter(re.findall(r"`([^`\n]+)`", _prose(text)))


def test_each_leads_to_the_other_under_its_title() -> None:
    assert ENGLISH.splitlines()[2] == "[中文](README.zh.md)"
    assert CHINESE.splitlines()[2] == "[English](README.md)"


def test_headings_are_as_many_on_each_level() -> None:
    assert _headings(CHINESE) == _headings(ENGLISH)


def test_code_blocks_differ_in_comments_alone() -> None:
    assert len(_blocks(ENGLISH)) >= 5
    assert _blocks(CHINESE) == _blocks(ENGLISH)


def test_comments_stand_on_the_same_lines() -> None:
    for (language, english), (_, chinese) in zip(
        FENCED.findall(ENGLISH), FENCED.findall(CHINESE), strict=True
    ):
        if language in COMMENTED:
            pairs = zip(english.splitlines(), chinese.splitlines(), strict=True)
            assert all((" #" in one) == (" #" in other) for one, other in pairs)


@pytest.mark.parametrize("mark", ["", "!"], ids=["links", "pictures"])
def test_links_and_pictures_lead_to_the_same_places_in_the_same_order(mark: str) -> None:
    assert _targets(ENGLISH, mark)
    assert _targets(CHINESE, mark) == _targets(ENGLISH, mark)


def test_commands_and_settings_in_the_prose_are_the_same() -> None:
    assert _inline(CHINESE) == _inline(ENGLISH)


def test_exit_statuses_are_the_same() -> None:
    bold = re.compile(r"\*\*(\d+)\*\*")
    assert bold.findall(ENGLISH)
    assert bold.findall(CHINESE) == bold.findall(ENGLISH)
