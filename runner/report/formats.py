"""Numbers and strangers' text as a page shows them: rounded, escaped, with nothing unseen."""

from __future__ import annotations

import re

# Control characters but tab and line feed; marks that change a text's direction.
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def cell(value: object) -> str:
    """Text that cannot break a Markdown table or smuggle in HTML."""
    text = " ".join(str(value).split())
    text = re.sub(r"[\\`*\[\]|#]", r"\\\g<0>", text)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return text


def visible(text: object) -> str:
    """Spell out what cannot be seen, or turns the text around it: `␀`, `⟨U+202E⟩`."""

    def named(match: re.Match[str]) -> str:
        code = ord(match.group())
        return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"

    return UNSEEN.sub(named, str(text))


def fenced(text: str, language: str) -> str:
    """A code block that nothing in the text can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


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
