"""lm-eval's templates are compiled once, and what they render stays lm-eval's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jinja2 import Environment, UndefinedError
from lm_eval import utils

from runner.lm.prompt_templates import compile_once


@pytest.fixture
def jinja(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """lm-eval's own environment, as it is before any run."""
    own = utils.env.overlay()
    monkeypatch.setattr(utils, "env", own)
    compile_once.cache_clear()
    yield own
    compile_once.cache_clear()


def test_a_template_is_compiled_once(jinja: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    own = jinja.from_string
    monkeypatch.setattr(jinja, "from_string", lambda source: compiled.append(source) or own(source))
    compile_once()
    documents = [{"q": "one", "n": 1}, {"q": "two", "n": 2}]
    template = "{% set n = n + 1 %}{{ q|regex_replace('o', '0') }} {{ n }}\n"
    assert [utils.apply_template(template, each) for each in documents] == ["0ne 2\n", "tw0 3\n"]
    assert utils.apply_template("{{ q }}", documents[0]) == "one"
    assert compiled == [template, "{{ q }}"]


def test_a_field_that_is_missing_is_still_an_error(jinja: Environment) -> None:
    compile_once()
    for _ in range(2):
        with pytest.raises(UndefinedError, match="'q' is undefined"):
            utils.apply_template("{{ q }}", {})


def test_an_lm_eval_without_that_environment_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(utils, "env", None)
    compile_once.cache_clear()
    compile_once()
    compile_once.cache_clear()
