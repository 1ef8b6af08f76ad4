"""Writes shares as percentages, the same way everywhere."""

from __future__ import annotations


def percent(share: float, digits: int = 1) -> str:
    """Return `12.5 %` for 0.125: a space before the sign, as SI has it."""
    return f"{100 * share:.{digits}f} %"
