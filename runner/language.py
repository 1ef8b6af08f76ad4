"""The language of reports, pages and verdict lines: English, or Chinese from its catalogue.

A message is written in English where it is composed, and translated there:

    gettext("{task}: {count} prompts were left-truncated.", task=task, count=count)

The Chinese texts are in runner/locale/zh/LC_MESSAGES/messages.po. `make messages` adds new messages
to it. Errors, logs, and what programs read (statuses, keys, JSON names) are always English.
"""

from __future__ import annotations

import gettext as gnu
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

ENGLISH, CHINESE = "en", "zh"
LANGUAGES = (ENGLISH, CHINESE)
DIRECTORY = Path(__file__).parent / "locale"
# As POSIX has their precedence.
VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")

_chosen: str | None = None
# Other threads keep their language.
_here: ContextVar[str | None] = ContextVar("language", default=None)


def use(language: str | None) -> None:
    """Use a language from now on in this process; None: that of the environment."""
    global _chosen
    _chosen = language


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Use a language within a block, for example English in a PNG, whose font lacks Chinese."""
    token = _here.set(language)
    try:
        yield
    finally:
        _here.reset(token)


def language() -> str:
    """Return `en` or `zh`."""
    return _here.get() or _chosen or _of_environment()


def gettext(message: str, /, **values: object) -> str:
    """Return a message in the chosen language, with its `{placeholders}` filled as by `format`."""
    return translated(message).format(**values)


def ngettext(one: str, many: str, count: int, /, **values: object) -> str:
    """Return the message for a `count`, which is a placeholder of its own."""
    said = _translations(language()).ngettext(one, many, count)
    return said.format(count=count, **values)


def N_(message: str) -> str:
    """Mark a constant for translation; `gettext` translates it where it is shown."""
    return message


def translated(message: str) -> str:
    """Return a message with its placeholders as they are."""
    # A catalogue has its own header under the empty message.
    return _translations(language()).gettext(message) if message else ""


def translated_plural(one: str, many: str, count: int) -> str:
    """Return the message for a `count` with its placeholders as they are."""
    return _translations(language()).ngettext(one, many, count)


def _of_environment() -> str:
    named = next(filter(None, map(os.environ.get, VARIABLES)), "")
    found = named.replace("-", "_").partition("_")[0].partition(".")[0].lower()
    return found if found in LANGUAGES else ENGLISH


@cache
def _translations(language: str) -> gnu.NullTranslations:
    if language == ENGLISH:
        return gnu.NullTranslations()
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    path = DIRECTORY / language / "LC_MESSAGES" / "messages.po"
    compiled = io.BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return gnu.GNUTranslations(compiled)
