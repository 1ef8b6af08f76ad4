"""Tests for the language of reports, and for its catalogue."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from runner import language
from runner.present.template import template

RUNNER = Path(__file__).parents[2] / "runner"
METHODS = [("**.py", "python"), ("**.j2", "jinja2")]
OPTIONS = {"**.j2": {"trimmed": "true", "silent": "false", "newstyle_gettext": "true"}}
PLACEHOLDER = re.compile(r"\{[^{}]*\}|%\(\w+\)[sd]")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """A test may choose a language; the next one starts with none chosen."""
    yield
    language.use(None)


def extracted() -> dict[str, tuple[str, str | None]]:
    """Every message of the code: its singular, with its plural and the file it is in."""
    found = {}
    for file, _, message, _, _ in extract_from_dir(RUNNER, METHODS, OPTIONS):
        one, many = (message[0], message[1]) if isinstance(message, tuple) else (message, None)
        found[one] = (file, many)
    return found


def catalogue() -> Catalog:
    path = language.DIRECTORY / "zh" / "LC_MESSAGES" / "messages.po"
    with path.open("rb") as file:
        return read_po(file, locale="zh")


def test_every_message_has_a_translation_and_no_translation_is_left_over() -> None:
    said = catalogue()
    known = {
        (each.id[0] if isinstance(each.id, tuple) else each.id): each for each in said if each.id
    }
    messages = extracted()
    lacking = [
        f"{file}: {message}"
        for message, (file, _) in messages.items()
        if message not in known or not all(_strings(known[message])) or known[message].fuzzy
    ]
    assert not lacking, "run `make messages`, then translate: " + "\n".join(lacking)
    assert not set(known) - set(messages), "run `make messages`"


def test_translations_have_the_placeholders_of_their_messages() -> None:
    for each in catalogue():
        if not each.id:
            continue
        ids = each.id if isinstance(each.id, tuple) else (each.id,)
        wanted = set(PLACEHOLDER.findall(ids[-1]))
        for string in _strings(each):
            assert set(PLACEHOLDER.findall(string)) == wanted, string


def test_no_message_is_written_inside_an_f_string() -> None:
    """Before Python 3.12, extraction does not look there."""
    hidden = [
        f"{path.relative_to(RUNNER)}:{call.lineno}"
        for path in RUNNER.rglob("*.py")
        for text in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(text, ast.JoinedStr)
        for call in ast.walk(text)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in ("gettext", "ngettext", "N_")
        and isinstance(call.args[0], ast.Constant)
    ]
    assert not hidden


def _strings(message: object) -> tuple[str, ...]:
    string = message.string  # type: ignore[attr-defined]
    return string if isinstance(string, tuple) else (string,)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_the_environment_chooses_the_language(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name in language.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert language.language() == expected
    language.use("en")
    assert language.language() == "en"


def test_an_empty_text_stays_empty() -> None:
    """A catalogue has its header there."""
    language.use("zh")
    assert language.gettext("") == language.translated("") == ""


def test_placeholders_and_plurals_are_filled() -> None:
    assert language.gettext("{a} of {b:.2f}", a=1, b=2) == "1 of 2.00"
    assert language.ngettext("{count} x", "{count} xs", 1) == "1 x"
    assert language.ngettext("{count} x", "{count} xs", 3) == "3 xs"


def test_a_template_escapes_what_it_puts_into_a_translated_message() -> None:
    jinja = template("strip.html.j2").environment
    text = "{% trans name=name %}<b>{{ name }}</b>{% endtrans %}"
    assert jinja.from_string(text).render(name="<i>\x1b") == "<b>&lt;i&gt;␛</b>"
