"""Numbers and strangers' text as a page shows them: rounded and escaped."""

from __future__ import annotations

import re

from runner.visible import visible


def cell(value: object) -> str:
    """Text that cannot break a Markdown table or smuggle in HTML."""
    text = visible(" ".join(str(value).split()))
    text = re.sub(r"[\\`*\[\]|#]", r"\\\g<0>", text)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return text


def fenced(text: str, language: str) -> str:
    """A code block that nothing in the text can end."""
    text = visible(text)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def cut(name: str, longest: int = 48) -> str:
    """The beginning and the end of a name that is too long for a table or a progress bar."""
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:+.{digits}f}"


def interval(bounds: tuple[float, float] | None, digits: int = 4) -> str:
    return "" if bounds is None else f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}"


def plus_minus(stderr: float | None) -> str:
    return "" if stderr is None else f"± {stderr:.4f}"


def of(count: int, whole: int) -> str:
    """`12 (2.0 %)`; no share of nothing."""
    return f"{count} ({count / whole:.1%})".replace("%", " %") if count and whole else str(count)


def duration(seconds: float) -> str:
    """`85 s`, `12 min`, `3 h 5 min`: as precise as an estimate is."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
