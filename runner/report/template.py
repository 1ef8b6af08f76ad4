"""The templates of every page and report that the runner writes."""

from __future__ import annotations

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def template(name: str, **filters: Callable[..., str]) -> Template:
    """A template of ours. What goes into HTML is escaped; into Markdown, its filters must do so."""
    jinja = Environment(
        loader=PackageLoader("runner"),
        autoescape=".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters.update(filters)
    return jinja.get_template(name)
