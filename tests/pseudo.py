"""A language for tests in which every translated message stands in ⟦brackets⟧."""

from __future__ import annotations

import gettext as gnu
import re
from html.parser import HTMLParser

import pytest

from runner import language

OPENED, CLOSED = "⟦", "⟧"
INNERMOST = re.compile(f"{OPENED}[^{OPENED}{CLOSED}]*{CLOSED}")
WORD = re.compile(r"[A-Za-z]*[a-z]{2,}[A-Za-z]*")
# Attributes that are read to people.
READ = ("aria-label", "alt", "placeholder", "title")


class Bracketing(gnu.NullTranslations):
    """Puts every message into brackets; its placeholders stay."""

    def gettext(self, message: str) -> str:
        return f"{OPENED}{message}{CLOSED}"

    def ngettext(self, one: str, many: str, n: int) -> str:
        return self.gettext(one if n == 1 else many)


def speak_pseudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the language of this module until the test ends."""
    monkeypatch.setattr(language, "_chosen", language.CHINESE)
    monkeypatch.setattr(language, "_translations", lambda _: Bracketing())


def untranslated(text: str) -> set[str]:
    """Return the English words of a text that are in no brackets."""
    while (outside := INNERMOST.sub(" ", text)) != text:
        text = outside
    return set(WORD.findall(text))


def untranslated_in_page(page: str) -> set[str]:
    """Return the English words of an HTML page that are in no brackets.

    `<code>`, `<pre>`, styles and scripts are not for translation.
    """
    reader = _Reader()
    reader.feed(page)
    return untranslated(" ".join(reader.found))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.within = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in READ and value]
        self.within += tag in ("code", "pre", "script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.within -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data: str) -> None:
        if not self.within:
            self.found.append(data)
