"""Read a Markdown page and its translation, so that tests can compare them part by part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# Four spaces after a blank line; the deeper lines of a list never follow one in these pages.
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n(?:\n(?= {4}))?)+")
# Languages whose comments are translated. Printed output has none; indented blocks are shell.
COMMENTED = ("", "bash", "yaml")


def fenced(text: str) -> list[tuple[str, list[str]]]:
    """Return the language and lines of each fenced block, in order."""
    return [(language, block.splitlines()) for _, language, block in FENCED.findall(text)]


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Return every block: the fenced ones first, then the indented ones, without a language."""
    without = FENCED.sub("", text)
    return fenced(text) + [("", block.splitlines()) for block in INDENTED.findall(without)]


def code(block: tuple[str, list[str]]) -> tuple[str, list[str]]:
    """Return a block without comments if its language has them."""
    language, lines = block
    if language not in COMMENTED:
        return block
    return language, [re.sub(r"(^|\s+)#.*$", "", line).rstrip() for line in lines]


def commented(block: tuple[str, list[str]]) -> list[bool]:
    """Tell for each line of a block whether it has a comment."""
    language, lines = block
    return [language in COMMENTED and re.search(r"(^|\s)#", line) is not None for line in lines]


def prose(text: str) -> str:
    """Return a page without its code blocks."""
    return INDENTED.sub("", FENCED.sub("", text))


def headings(text: str) -> list[tuple[int, str]]:
    """Return the level and title of each heading, in order."""
    found = re.findall(r"^(#+) (.+)$", prose(text), re.MULTILINE)
    return [(len(marks), title) for marks, title in found]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    titles = (title.strip().lower() for _, title in headings(text))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def targets(text: str, mark: str = "") -> list[str]:
    """Return where links (`mark` is empty) or pictures (`!`) lead, in order."""
    return re.findall(rf"(?<!!){mark}\[[^\]]*\]\(([^)\s]+)\)", prose(text))


def inline(text: str) -> Counter[str]:
    """Count the inline code: commands, settings, paths; sentences may order it otherwise."""
    return Counter(re.findall(r"`([^`\n]+)`", prose(text)))


def numbers(text: str) -> Counter[str]:
    """Count the numbers in the prose, without those in inline code or link targets."""
    plain = re.sub(r"`[^`\n]+`|\]\([^)\s]+\)", "", prose(text))
    return Counter(re.findall(r"\d+(?:[.,]\d+)*", plain))


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of each table, row by row; the second row is the delimiter."""
    return list(_tables(prose(text)))


def _tables(text: str) -> Iterator[list[list[str]]]:
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        yield [[cell.strip() for cell in row[1:-1].split("|")] for row in table.splitlines()]
