"""Loads the templates of all pages and reports."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from runner.visible import visible


@cache
def template(name: str, **filters: Callable[..., str]) -> Template:
    """Load a template whose values have control characters made visible.

    HTML is escaped automatically; Markdown templates must use the filters. The
    template is compiled once for its filters, so pass functions that exist once, no new lambdas.
    """
    jinja = Environment(
        loader=PackageLoader("runner"),
        autoescape=".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    jinja.filters["visible"] = lambda value: visible(str(value))
    jinja.filters.update(filters)
    return jinja.get_template(name)


def _shown(value: Any) -> Any:
    """Make control characters visible; Markup consists of values already processed."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
