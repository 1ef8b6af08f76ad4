"""Temporarily replaces attributes of lm-eval and vLLM where they offer no extension point."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set `owner.name` to the value, and restore it at the end.

    Raises:
        AttributeError: if there is no such attribute, because a new release renamed it.
    """
    getattr(owner, name)
    own = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
