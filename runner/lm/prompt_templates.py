"""Compiles each of lm-eval's prompt templates once instead of once per document."""

from __future__ import annotations

from functools import cache, lru_cache

from jinja2 import Environment
from lm_eval import utils

# Enough for the templates of hundreds of tasks. Each takes about 10 KiB.
KEPT = 2048


@cache
def compile_once() -> None:
    """Cache the templates that lm-eval's Jinja environment compiles, for the life of the process.

    lm-eval renders each field of each document with `utils.apply_template`, which compiles the
    task's template every time. That takes half a millisecond, many times as long as rendering.
    """
    jinja = getattr(utils, "env", None)
    if isinstance(jinja, Environment):  # else rendering is only slower
        jinja.from_string = lru_cache(KEPT)(jinja.from_string)  # type: ignore[method-assign, assignment]
