"""Loads the templates of all pages and reports."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, pass_eval_context
from jinja2.nodes import EvalContext
from markupsafe import Markup

from runner import language
from runner.visible import visible


@cache
def template(name: str, **filters: Callable[..., str]) -> Template:
    """Load a template whose values have control characters made visible.

    HTML is escaped automatically; Markdown templates must use the filters. The
    template is compiled once for its filters, so pass functions that exist once, no new lambdas.
    `{% trans %}` and `gettext` translate into the language chosen when the template is rendered.
    """
    jinja = Environment(
        loader=PackageLoader("runner"),
        autoescape=".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
        extensions=["jinja2.ext.i18n"],
    )
    jinja.policies["ext.i18n.trimmed"] = True
    jinja.newstyle_gettext = True  # type: ignore[attr-defined]
    jinja.globals.update(gettext=_gettext, ngettext=_ngettext, language=language.language)
    jinja.filters["visible"] = lambda value: visible(str(value))
    jinja.filters.update(filters)
    return jinja.get_template(name)


def _shown(value: Any) -> Any:
    """Make control characters visible; Markup consists of values already processed."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@pass_eval_context
def _gettext(context: EvalContext, message: str, /, **values: Any) -> str:
    return _filled(context, language.translated(message), values)


@pass_eval_context
def _ngettext(context: EvalContext, one: str, many: str, number: int, /, **values: Any) -> str:
    values.setdefault("num", number)
    return _filled(context, language.translated_plural(one, many, number), values)


def _filled(context: EvalContext, message: str, values: dict[str, Any]) -> str:
    """Fill the placeholders with values that are made visible and, in HTML, escaped."""
    said = Markup(message) if context.autoescape else message
    return said % {name: _shown(value) for name, value in values.items()}
