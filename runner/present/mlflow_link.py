"""The link from report.html to the run in MLflow, inserted after the upload."""

from __future__ import annotations

import re
from html import escape

from runner.language import ENGLISH, gettext, speaking

# Markers on the page; the link goes between them.
START, END = "<!--MLflow-->", "<!--/MLflow-->"


def linked(page: str, address: str, command: str) -> str:
    """Return the page with the link inserted or replaced; without markers it is unchanged.

    The link's text is in the language of the page: what uploads the run may have another.

    `command` starts the server that the link needs; it is empty for a remote server.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        return page
    language = re.search(r'<html lang="(\w+)">', page)
    with speaking(language[1] if language else ENGLISH):
        name = gettext("This run in MLflow")
        link = f'<a href="{escape(address)}">{name}</a>'
        if command:
            code = f"<code>{escape(command)}</code>"
            link += gettext(" (first run {command})", command=code)
    return f'{before}{start}<div class="small soft">{link}</div>{end}{after}'
