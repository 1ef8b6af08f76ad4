"""lm-eval's prompt templates, compiled once instead of once a document."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from jinja2 import Environment, Template
from lm_eval import utils

# Enough for the templates of hundreds of tasks; each takes some ten KiB.
KEPT = 2048


@cache
def compile_once() -> None:
    """Keep what lm-eval's Jinja environment compiles, for this process.

    lm-eval renders each field of each document through `utils.apply_template`, which compiles the
    task's template anew: half a millisecond, many times what rendering takes.
    """
    jinja = getattr(utils, "env", None)
    if not isinstance(jinja, Environment):  # of another lm-eval, which is slower then
        return
    compiled = lru_cache(KEPT)(jinja.from_string)

    def from_string(source: Any, *settings: Any, **named: Any) -> Template:
        if settings or named:  # with globals or a class of its own
            return compiled.__wrapped__(source, *settings, **named)
        return compiled(source)

    jinja.from_string = from_string  # type: ignore[method-assign]
