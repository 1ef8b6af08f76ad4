"""The templates of every page and report that the runner writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from runner.visible import visible


def template(name: str, **filters: Callable[..., str]) -> Template:
    """A template of ours, whose values show nothing unseen.

    What goes into HTML is escaped; into Markdown, its filters must do so.
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
    """What stands for a value; Markup is made of values that have been here."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
