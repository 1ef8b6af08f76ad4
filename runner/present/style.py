"""Terminal colours and links. Rich omits both in files and pipes, and respects NO_COLOR."""

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
# INCONCLUSIVE, UNJUDGED and any other state.
DOUBT = "bold yellow"


def verdict(status: str) -> Text:
    """Return a verdict in its colour."""
    return Text(status, COLOURS.get(status, DOUBT))


def link(address: str, text: str = "") -> Text:
    """Return a text (default: the address) that links to the address (OSC 8)."""
    return Text(text or address, Style(link=address))


def file_link(file: Path, text: str = "") -> Text:
    """Return a link to a file; the URL contains the host name for remote terminals."""
    address = f"file://{socket.gethostname()}{quote(str(file.resolve()))}"
    return link(address, text or str(file))
