"""Formats numbers and escapes untrusted text for reports."""

from __future__ import annotations

import re

from runner.language import gettext
from runner.percent import percent
from runner.visible import visible


def cell(value: object) -> str:
    """Return text that cannot break a Markdown table or inject HTML."""
    text = visible(" ".join(str(value).split()))
    text = re.sub(r"[\\`*\[\]|#]", r"\\\g<0>", text)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return text


def fenced(text: str, language: str) -> str:
    """Return a code block whose fence cannot be closed by the text."""
    text = visible(text)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def cut(name: str, longest: int = 48) -> str:
    """Cut a long name in its middle for tables and progress bars."""
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def clip(text: str, longest: int) -> str:
    """Cut a long text in its middle."""
    if len(text) <= longest:
        return text
    head, tail = longest * 2 // 3, longest // 3
    end = text[len(text) - tail :]  # [-tail:] would be everything for 0
    omitted = gettext("… {count:,} characters omitted …", count=len(text) - head - tail)
    return f"{text[:head]}\n{omitted}\n{end}"


def number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:+.{digits}f}"


def interval(bounds: tuple[float, float] | None, digits: int = 4) -> str:
    if bounds is None:
        return ""
    low, high = (number(bound, digits) for bound in bounds)
    return gettext("{low} to {high}", low=low, high=high)


def plus_minus(stderr: float | None) -> str:
    return "" if stderr is None else f"± {stderr:.4f}"


def times(ratio: float) -> str:
    """Return a ratio with two digits, thousands apart."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"


def of(count: int, whole: int) -> str:
    """Return `12 (2.0 %)`, or the count alone if either number is 0."""
    if not (count and whole):
        return str(count)
    return gettext("{count} ({share})", count=count, share=percent(count / whole))


def duration(seconds: float) -> str:
    """Return `85 s`, `12 min` or `3 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
