"""Text of strangers at every way out: screen, pages, MLflow. Nothing in it is unseen."""

from __future__ import annotations

import re

# Control characters but tab and line feed, what separates lines and paragraphs, halves of
# characters, and format characters (Unicode's Cf, Zl, Zp, Cs): these turn the direction of the text
# around them, split words, or hide text in tags. So do fillers and all but the usual variation
# selectors, and U+FFFE and U+FFFF, which XML forbids. Joiners belong to Persian, Hindi and many
# emoji, but to nothing beside ASCII.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b"
    "\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"
    "\ufffe\uffff\ud800-\udfff\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)


def visible(text: str) -> str:
    """Spell out what cannot be seen, or turns the text around it: `␛`, `⟨U+202E⟩`."""
    return text if text.isascii() and text.isprintable() else UNSEEN.sub(_named, text)


def _named(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"
