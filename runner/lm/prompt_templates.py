"""lm-eval's prompt templates, compiled once instead of once a document."""

from __future__ import annotations

from functools import cache, lru_cache

from jinja2 import Environment
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
    if isinstance(jinja, Environment):  # another lm-eval may have it elsewhere, and is slower then
        jinja.from_string = lru_cache(KEPT)(jinja.from_string)  # type: ignore[method-assign, assignment]
