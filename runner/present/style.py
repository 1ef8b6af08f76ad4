"""A terminal's colours and links. Rich leaves both out of files and pipes, and heeds NO_COLOR."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import quote

from rich.style import Style
from rich.text import Text

COLOURS = {
    "PASSED": "bold green",
    "FAILED": "bold red",
    "ERROR": "bold red",
    "REFUSED": "bold red",
}
# INCONCLUSIVE, UNJUDGED and whatever else is neither good nor bad.
DOUBT = "bold yellow"


def verdict(status: str) -> Text:
    """A verdict in its colour."""
    return Text(status, COLOURS.get(status, DOUBT))


def link(address: str, text: str = "") -> Text:
    """A text, or the address itself, that opens the address where the terminal can (OSC 8)."""
    return Text(text or address, Style(link=address))


def file_link(file: Path, text: str = "") -> Text:
    """As `link`; the host's name tells a terminal that looks at another machine."""
    address = f"file://{socket.gethostname()}{quote(str(file.resolve()))}"
    return link(address, text or str(file))
